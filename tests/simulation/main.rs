//! The engine against a simulated fleet: faults, stops and crashes at any point of a rollout, and what holds all the same.
//!
//! Time is virtual and everything that is random comes from the seed, so that a seed that fails replays:
//! `SEED=17 cargo nextest run --test simulation`. `SEEDS` is how many are tried, `make simulate SEEDS=100000` many.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::print_stdout, reason = "what a simulation has seen is its result")]

mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use tenantry::domain::release::Provenance;
use tenantry::domain::{
    ApprovalPolicy, ConcurrencyMode, Digest, Exit, Gate, Identity, OnFailure, Outcome, Quota, Release, Rollout, Shard,
    StackOptions, TargetId, TemplateObject, Wave,
};
use tenantry::engine::{Engine, Execution, PlanRequest, Recorded, Refusal, RolledOut, Stop, StopHandle};
use tenantry::event::{Event, Events, Timed};
use tenantry::plan::{Approval, Decision, Intent, Origin, Plan, Secrets, Selection};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{sleep, timeout};

use world::{Bucket, Fate, Faults, World, target};

/// Seeds that every run of the tests tries.
const SEEDS: u64 = 1000;
/// And of those with several machines.
const SHARDED: u64 = 200;

fn release() -> Release {
    let template = TemplateObject { sha256: Digest::of("t"), key: "t".into() };
    Release::new("app", "bucket", BTreeMap::new(), BTreeMap::new(), template, Provenance::default())
}

/// One process: what it tells, and how to stop it.
struct Process {
    engine: Engine,
    heard: UnboundedReceiver<Timed>,
    handle: StopHandle,
}

fn process(world: &World, number: usize) -> Process {
    let (events, heard) = Events::channel(world.clock());
    let (handle, stop) = Stop::new();
    let engine = Engine {
        accounts: Arc::new(world.clone()),
        store: Arc::new(Bucket(world.clone())),
        events,
        stop,
        run: format!("run-{number}"),
        by: Identity { principal: "builder".into(), source_identity: None },
        lease: None,
        together: None,
    };
    Process { engine, heard, handle }
}

/// What a seed decides about a rollout.
fn policy(random: &mut fastrand::Rng, targets: usize) -> Rollout {
    let quota = |random: &mut fastrand::Rng| {
        if random.bool() { Quota::Percent(random.u8(0..=100)) } else { Quota::Count(random.u32(..8)) }
    };
    let waves = random.usize(..4);
    Rollout {
        max_concurrency: Quota::Count(random.u32(1..=u32::try_from(targets).unwrap())),
        failure_tolerance: quota(random),
        concurrency_mode: if random.bool() { ConcurrencyMode::Soft } else { ConcurrencyMode::Strict },
        waves: (0..waves)
            .map(|number| Wave {
                name: format!("wave {number}"),
                bake: Duration::from_secs(random.u64(..600)),
                failure_tolerance: random.bool().then(|| quota(random)),
            })
            .collect(),
        on_failure: if random.u8(..4) == 0 { OnFailure::Continue } else { OnFailure::Stop },
        alarms: vec![],
        breaker: (random.u8(..4) == 0).then(|| random.u32(1..6)),
        requeue: random.u8(..3) == 0,
        deadline: Duration::from_hours(2),
    }
}

/// What came of a seed.
#[derive(Default)]
struct Told {
    crashes: usize,
    stops: usize,
    frozen: usize,
    executions: usize,
    outcomes: BTreeMap<&'static str, usize>,
}

/// What a seed begins with: a fleet, and a plan that was approved.
struct Setting {
    world: World,
    rollout: Rollout,
    request: PlanRequest,
    targets: Vec<tenantry::domain::Target>,
    plan: Arc<Plan>,
    /// Whether somebody else has changed a stack before anything is executed.
    meddled: bool,
}

/// Makes a fleet and a plan for it, and then lets anything happen; none where there would be nothing to execute.
async fn setting(random: &mut fastrand::Rng, seed: u64, change: impl FnOnce(&mut Rollout)) -> Option<Setting> {
    // The pauses between looks come from here.
    fastrand::seed(seed);
    // Now and then more at once than are looked at closely at a time.
    let many = random.u8(..8) == 0;
    let count = if many { random.usize(32..64) } else { random.usize(1..24) };
    let world = World::new(random.u64(..), count, "t");
    let mut rollout = policy(random, count);
    if many {
        rollout.max_concurrency = Quota::Percent(100);
        rollout.waves.truncate(1);
    }
    change(&mut rollout);
    let waves = u32::try_from(rollout.waves.len().max(1)).unwrap();
    let request = PlanRequest {
        stage: "prod".into(),
        release: release(),
        origin: Origin::Direct,
        gate: Gate::Approval(ApprovalPolicy::default()),
        rollout: rollout.clone(),
        nested: false,
        body: None,
        options: StackOptions::default(),
        secrets: Secrets::sealing(b"key".to_vec()),
        selection: Selection::default(),
        pinned: vec![],
    };
    let mut targets: Vec<_> = (0..count).map(target).collect();
    for target in &mut targets {
        target.wave = random.u32(..waves);
    }

    // Planned and approved in fair weather.
    let planner = process(&world, 0);
    let entered = planner.engine.enter("prod", targets.clone()).await;
    let planning = planner.engine.plan(&request, entered).await;
    let mut plan = planning.plan.clone();
    assert_eq!(planning.failures(), 0);
    if !plan.content.is_executable() {
        return None;
    }
    planner.engine.keep_plan(Arc::make_mut(&mut plan), &request.secrets).await.unwrap();
    approve(&planner.engine, &plan, &request.secrets).await;

    // And then anything may happen.
    let rates = [0, 5, 50, 250];
    world.state().faults = Faults {
        before: rates[random.usize(..4)],
        after: rates[random.usize(..4)] / 2,
        slow: rates[random.usize(..4)] / 5,
        duplicate: rates[random.usize(..4)],
        store: [0, 0, 5, 20][random.usize(..4)],
        expiry: [0, 0, 2, 10][random.usize(..4)],
    };
    let meddled = (random.u8(..10) == 0).then(|| format!("t{:03}", random.usize(..count)));
    let meddled = meddled.is_some_and(|tenant| world.interfere(&tenant));
    Some(Setting { world, rollout, request, targets, plan, meddled })
}

/// Plays one seed and checks what has to hold.
async fn play(seed: u64) -> Told {
    let mut random = fastrand::Rng::with_seed(seed);
    let Some(setting) = setting(&mut random, seed, |_| {}).await else { return Told::default() };
    let Setting { world, rollout, request, targets, plan, meddled } = setting;
    let count = targets.len();
    let mut told = Told::default();
    let crashes = random.usize(..4);
    let mut last: Option<RolledOut> = None;
    // Within the tolerance other waves go on without them, and whoever resumes starts them.
    let (mut late, mut held) = (BTreeSet::new(), BTreeSet::new());
    let meddled_later = (random.u8(..4) == 0).then(|| format!("t{:03}", random.usize(..count)));
    let mut meddled_since = false;
    let scene = Scene { world: &world, plan: &plan, request: &request, targets: &targets };
    for number in 1..200 {
        if let Some(tenant) = meddled_later.as_ref().filter(|_| number > 1 && !world.state().executions.is_empty()) {
            meddled_since |= world.interfere_with_old(tenant);
        }
        let Process { engine, mut heard, handle } = process(&world, number);
        let mut work = Box::pin(scene.go_on(&engine));
        let early = Duration::from_millis(random.u64(..400_000) << random.u8(..4));
        let mut ended = match random.u8(..4) {
            0 if number <= crashes => timeout(early, &mut work).await.ok(),
            1 if number <= crashes => {
                let stop = async {
                    sleep(early).await;
                    handle.request();
                    std::future::pending::<()>().await;
                };
                let ended = tokio::select! { biased; ended = &mut work => Some(ended), () = stop => None };
                told.stops += usize::from(handle.is_requested());
                ended
            }
            2 if number <= crashes => {
                if let Ok(ended) = timeout(early, &mut work).await {
                    Some(ended)
                } else {
                    // It stands still while another process comes to an end, and then goes on as if nothing had been.
                    told.frozen += 1;
                    let mut other = process(&world, number + 1000);
                    let ended = scene.go_on(&other.engine).await;
                    let thawed = work.as_mut().await;
                    let verbose = std::env::var("SEED").is_ok();
                    check_events(&mut other.heard, verbose);
                    if verbose {
                        println!("process {number}, thawed: {thawed:?}");
                    }
                    // Where nobody else has taken the lock meanwhile it goes on, but for what it found the lease over at.
                    if let Ok(rolled_out) = thawed {
                        let skipped = rolled_out
                            .finished
                            .into_iter()
                            .filter(|end| is_skipped_for(end, &["the stage's lock is lost"]));
                        held.extend(skipped.map(|(target, _)| target.tenant));
                    }
                    Some(ended)
                }
            }
            _ => Some(work.as_mut().await),
        };
        drop(work);
        let verbose = std::env::var("SEED").is_ok();
        check_events(&mut heard, verbose);
        if verbose {
            println!("process {number}: {ended:?}");
        }
        match ended.take() {
            None => told.crashes += 1,
            Some(Ok(rolled_out)) => {
                let skipped = rolled_out.finished.iter().filter(|end| unanswered(end));
                late.extend(skipped.map(|(target, _)| target.tenant.clone()));
                held.extend(unread(&rolled_out));
                if !handle.is_requested()
                    && unread(&rolled_out).next().is_none()
                    && !rolled_out.finished.iter().any(unanswered)
                {
                    last = Some(rolled_out);
                    break;
                }
            }
            // The bucket did not answer, or another process has the lock: somebody tries again.
            Some(Err(Refusal::Fault(_) | Refusal::Halted(_) | Refusal::Locked(_))) => {}
            // What could not be read for minutes is refused like what differs.
            Some(Err(Refusal::Differs(differences))) if differences.iter().all(|one| in_passing(one)) => {}
            Some(Err(Refusal::Differs(differences))) => {
                assert!(meddled, "refused, though nobody has changed anything: {differences:?}");
                assert!(world.state().executions.is_empty(), "refused, and yet executed: {differences:?}");
                return told;
            }
            Some(Err(other)) => panic!("refused: {other:?}"),
        }
    }
    let last = last.expect("two hundred tries were not enough");
    // Whatever is detached may still be read too early: nothing may change any more.
    sleep(Duration::from_hours(1)).await;
    check(&world, &plan, &rollout, &last, (&late, &held), meddled || meddled_since, false);
    told.executions = world.state().executions.len();
    for (_, outcome) in &last.finished {
        *told.outcomes.entry(outcome.name()).or_default() += 1;
    }
    told
}

/// How the reasons end of what the seed lets fail in passing.
const IN_PASSING: [&str; 3] = ["as the seed wants it", "the session has ended", "the answer was lost"];

fn in_passing(reason: &str) -> bool {
    IN_PASSING.iter().any(|end| reason.ends_with(end))
}

/// Whether CloudFormation did not answer for minutes: then somebody resumes.
fn unanswered(end: &(TargetId, Outcome)) -> bool {
    is_skipped_for(end, &IN_PASSING)
}

/// Tenants of which CloudFormation did not tell for minutes how far they had come: then somebody resumes, too.
fn unread(rolled_out: &RolledOut) -> impl Iterator<Item = String> {
    let is_unread = |outcome: &Outcome| {
        let whys = ["how far it has come cannot be read", "whether the execution began is not known", "AssumeRole: "];
        matches!(outcome, Outcome::Detached(failure) if whys.iter().any(|why| failure.reason.starts_with(why)))
    };
    let unread = rolled_out.finished.iter().filter(move |(_, outcome)| is_unread(outcome));
    unread.map(|(target, _)| target.tenant.clone())
}

/// Tells whether a target was not started for one of some reasons.
fn is_skipped_for((_, outcome): &(TargetId, Outcome), reasons: &[&str]) -> bool {
    match outcome {
        Outcome::Skipped(failure) => reasons.iter().any(|reason| failure.reason.ends_with(reason)),
        _ => false,
    }
}

/// Plays one seed with several machines, each of which executes a shard, is killed or stopped now and then, and is started
/// again; then somebody resumes what they have left, if anything.
async fn play_shards(seed: u64) -> Told {
    let mut random = fastrand::Rng::with_seed(seed);
    let soft = |rollout: &mut Rollout| rollout.concurrency_mode = ConcurrencyMode::Soft;
    let Some(setting) = setting(&mut random, seed, soft).await else { return Told::default() };
    let Setting { world, rollout, request, targets, plan, meddled } = setting;
    let most = rollout.max_concurrency.of(targets.len()).max(1);
    let of = random.u32(1..=u32::try_from(most.min(5)).unwrap());
    let machines: Vec<(Shard, fastrand::Rng)> =
        Shard::all(of).map(|shard| (shard, fastrand::Rng::with_seed(random.u64(..)))).collect();
    let machines =
        machines.into_iter().map(|(shard, random)| machine(&world, &plan, &request, &targets, shard, random));
    let over = std::cell::Cell::new(false);
    let machines = async {
        let ends = futures_util::future::join_all(machines).await;
        over.set(true);
        ends
    };
    let (ends, ()) = tokio::join!(machines, follower(&world, &plan, of, &over));
    let mut told = Told::default();
    let (mut late, mut held) = (BTreeSet::new(), BTreeSet::new());
    for end in ends {
        told.crashes += end.0.crashes;
        told.stops += end.0.stops;
        late.extend(end.1);
        held.extend(end.2);
    }
    let scene = Scene { world: &world, plan: &plan, request: &request, targets: &targets };
    let mut last = None;
    for number in 1..100 {
        let Process { engine, mut heard, .. } = process(&world, 90_000 + number);
        let ended = scene.go_on(&engine).await;
        let verbose = std::env::var("SEED").is_ok();
        check_events(&mut heard, verbose);
        if verbose {
            println!("resumed: {ended:?}");
        }
        match ended {
            Ok(rolled_out) => {
                late.extend(
                    rolled_out.finished.iter().filter(|end| unanswered(end)).map(|(target, _)| target.tenant.clone()),
                );
                held.extend(unread(&rolled_out));
                if unread(&rolled_out).next().is_none() && !rolled_out.finished.iter().any(unanswered) {
                    last = Some(rolled_out);
                    break;
                }
            }
            Err(Refusal::Fault(_) | Refusal::Halted(_) | Refusal::Locked(_)) => {}
            Err(Refusal::Differs(differences)) if differences.iter().all(|one| in_passing(one)) => {}
            Err(Refusal::Differs(differences)) => {
                assert!(meddled, "refused, though nobody has changed anything: {differences:?}");
                check_executions(&world, &plan, &rollout, true);
                return told;
            }
            Err(other) => panic!("refused: {other:?}"),
        }
    }
    let last = last.expect("a hundred tries were not enough");
    sleep(Duration::from_hours(1)).await;
    check(&world, &plan, &rollout, &last, (&late, &held), meddled, true);
    told.executions = world.state().executions.len();
    for (_, outcome) in &last.finished {
        *told.outcomes.entry(outcome.name()).or_default() += 1;
    }
    told
}

/// Follows the machines, as `apply --engine` does: what it says of a target is so, and it says everything once.
async fn follower(world: &World, plan: &Plan, of: u32, over: &std::cell::Cell<bool>) {
    let Process { engine, mut heard, .. } = process(world, 95_000);
    let followed = engine.follow_elsewhere(plan, of, 0, || async { Ok(over.get()) }).await;
    let (mut waves, mut finished) = (BTreeSet::new(), BTreeSet::new());
    while let Ok(event) = heard.try_recv() {
        match event.event {
            Event::WaveStarted { wave, .. } => assert!(waves.insert(wave.clone()), "{wave} began twice"),
            Event::Finished { target, .. } => _ = finished.insert(target),
            _ => {}
        }
    }
    // A store that fails for long is told, and so is that no machine has begun.
    let Ok(Some(done)) = followed else { return };
    let mut ends = BTreeSet::new();
    for (target, outcome) in &done.finished {
        assert!(ends.insert(target), "{target} has two outcomes");
        if matches!(outcome, Outcome::Deployed) {
            assert_eq!(world.truth(&target.tenant).unwrap().1.as_deref(), Some("t"), "{target} is not {outcome:?}");
            assert!(finished.contains(target), "nothing was heard of {target}");
        }
    }
    let open = |(_, outcome): &(TargetId, Outcome)| matches!(outcome, Outcome::Skipped(_) | Outcome::Detached(_));
    let is_over = matches!(done.exit, Exit::Done | Exit::Tolerated);
    assert!(!is_over || !done.finished.iter().any(open), "{done:?}");
}

/// Executes a shard until it has ended; tells also which targets were not started since nothing answered, and of which
/// nobody could say how far they had come.
async fn machine(
    world: &World,
    plan: &Arc<Plan>,
    request: &PlanRequest,
    targets: &[tenantry::domain::Target],
    shard: Shard,
    mut random: fastrand::Rng,
) -> (Told, BTreeSet<String>, BTreeSet<String>) {
    let own: Vec<_> = targets.iter().filter(|target| shard.has(&target.id)).cloned().collect();
    let (mut told, mut late, mut held) = (Told::default(), BTreeSet::new(), BTreeSet::new());
    if own.is_empty() {
        return (told, late, held);
    }
    let wait = Duration::from_mins(30);
    let crashes = random.usize(..3);
    sleep(Duration::from_millis(random.u64(..60_000))).await;
    for number in 0..20 {
        let Process { engine, mut heard, handle } = process(world, shard.number as usize * 1000 + number);
        let entered = engine.enter("prod", own.clone()).await;
        let execution = Execution { plan, request, settled: None, before: None, wait };
        let mut work = Box::pin(engine.roll_out_shard(shard, execution, entered));
        let early = Duration::from_millis(random.u64(..400_000) << random.u8(..4));
        let ended = match random.u8(..3) {
            0 if number < crashes => timeout(early, &mut work).await.ok(),
            1 if number < crashes => {
                let stop = async {
                    sleep(early).await;
                    handle.request();
                    std::future::pending::<()>().await;
                };
                let ended = tokio::select! { biased; ended = &mut work => Some(ended), () = stop => None };
                told.stops += usize::from(handle.is_requested());
                ended
            }
            _ => Some(work.as_mut().await),
        };
        drop(work);
        let verbose = std::env::var("SEED").is_ok();
        check_events(&mut heard, verbose);
        if verbose {
            println!("shard {shard}, process {number}: {ended:?}");
        }
        match ended {
            None => told.crashes += 1,
            Some(Ok(rolled_out)) => {
                let skipped = rolled_out.finished.iter().filter(|end| unanswered(end));
                late.extend(skipped.map(|(target, _)| target.tenant.clone()));
                held.extend(unread(&rolled_out));
                if !handle.is_requested() && !rolled_out.finished.iter().any(unanswered) {
                    break;
                }
            }
            Some(Err(Refusal::Fault(_) | Refusal::Halted(_) | Refusal::Locked(_))) => {}
            // It is over, or not what was planned: whoever resumes says so.
            Some(Err(Refusal::Differs(_) | Refusal::Shut(_))) => break,
            Some(Err(other)) => panic!("refused: {other:?}"),
        }
    }
    (told, late, held)
}

/// What all processes of a seed work on.
struct Scene<'a> {
    world: &'a World,
    plan: &'a Arc<Plan>,
    request: &'a PlanRequest,
    targets: &'a [tenantry::domain::Target],
}

impl Scene<'_> {
    /// Resumes the latest rollout that has used the approval, or begins one.
    async fn go_on(&self, engine: &Engine) -> Result<RolledOut, Refusal> {
        let Self { world, plan, request, targets } = self;
        let wait = Duration::from_mins(30);
        let execution = || Execution { plan, request, settled: None, before: None, wait };
        let begun: BTreeSet<String> = world.keys().iter().filter_map(|key| rollout_of(key)).collect();
        for rollout in begun.iter().rev() {
            let Some(history) = engine.history("app", rollout).await? else { continue };
            let entered = engine.enter("prod", targets.to_vec()).await;
            match engine.resume(rollout, history, execution(), entered).await {
                // It never came so far: it is none.
                Err(Refusal::NotItsApproval) => {}
                other => return other,
            }
        }
        let entered = engine.enter("prod", targets.to_vec()).await;
        engine.roll_out(execution(), entered).await
    }
}

/// Returns the rollout that a key of the journal belongs to.
fn rollout_of(key: &str) -> Option<String> {
    let rest = key.strip_prefix("tenantry/app/rollouts/")?;
    rest.ends_with("-begun.json").then(|| rest.split('/').next().unwrap().to_owned())
}

async fn approve(engine: &Engine, plan: &Plan, secrets: &Secrets) {
    let at = engine.events.now();
    let approval = Approval {
        version: 1,
        application: "app".into(),
        stage: "prod".into(),
        plan: plan.digest,
        round: plan.round,
        decision: Decision::Approved,
        by: Identity { principal: "approver".into(), source_identity: None },
        recorded_by: None,
        via: "command".into(),
        source: None,
        at,
        until: at + Duration::from_hours(1000),
        seen: vec![],
        comment: None,
    };
    let policy = ApprovalPolicy { expires: Duration::from_hours(1000), ..ApprovalPolicy::default() };
    assert_eq!(engine.decide(plan, &policy, approval, secrets).await.unwrap(), Recorded::New);
}

/// Every target ends once. Where one seed is replayed, it tells what has happened.
fn check_events(heard: &mut UnboundedReceiver<Timed>, verbose: bool) {
    let mut finished: BTreeSet<TargetId> = BTreeSet::new();
    while let Ok(event) = heard.try_recv() {
        if verbose {
            println!("{}", serde_json::to_string(&event).unwrap());
        }
        if let Event::Finished { target, .. } = event.event {
            assert!(finished.insert(target.clone()), "{target} ended twice");
        }
    }
}

/// What has to hold of all that was executed, whoever has done it and however it has ended.
fn check_executions(world: &World, plan: &Plan, rollout: &Rollout, shards: bool) {
    let executions = world.state().executions.clone();
    // No target is executed twice, but for the one try that the policy allows, after the first has failed.
    for target in &plan.content.targets {
        let all: Vec<_> = executions.iter().filter(|one| one.tenant == target.target.tenant).collect();
        assert!(all.len() <= 1 + usize::from(rollout.requeue), "{} was executed {} times", target.target, all.len());
        for pair in all.windows(2) {
            assert!(pair[0].fate != Fate::Succeeds && pair[0].ends <= pair[1].began, "{} in between", target.target);
            assert_ne!(pair[0].change_set, pair[1].change_set);
        }
        // Nothing is executed that was not approved.
        for one in all {
            let changes = Intent::of(matches!(target.intent, Intent::Create(_)), one.changes.clone());
            assert_eq!(changes, target.intent, "{} was changed otherwise than approved", target.target);
        }
    }

    // Never more at a time than allowed.
    let most = rollout.max_concurrency.of(plan.content.targets.len()).max(1);
    let seen = world.most_at_once(rollout.deadline);
    assert!(seen <= most, "{seen} ran at once, {most} may");

    // No more failures than tolerated, and what was in work when they became too many.
    let tolerated = plan.content.tolerated();
    let hangs = |one: &world::Execution| one.ends > one.began + rollout.deadline;
    let failed = executions.iter().filter(|one| one.fate != Fate::Succeeds || hangs(one)).count();
    if rollout.on_failure == OnFailure::Stop && !rollout.requeue {
        let may = match rollout.concurrency_mode {
            ConcurrencyMode::Strict => tolerated + 1,
            // What a shard knows of the others is a second old at most: each of its places may have been filled anew meanwhile.
            ConcurrencyMode::Soft if shards => tolerated + 2 * most,
            ConcurrencyMode::Soft => tolerated + most,
        };
        assert!(failed <= may, "{failed} failed, {may} may");
    }
}

/// What has to hold when all is over.
fn check(
    world: &World,
    plan: &Plan,
    rollout: &Rollout,
    last: &RolledOut,
    (late, held): (&BTreeSet<String>, &BTreeSet<String>),
    meddled: bool,
    shards: bool,
) {
    check_executions(world, plan, rollout, shards);
    let executions = world.state().executions.clone();
    let hangs = |one: &world::Execution| one.ends > one.began + rollout.deadline;
    let stopped_by = check_waves(world, plan, rollout, &executions, (late, held));

    // Every target has exactly one outcome: the one that its last execution has led to.
    let mut ends: BTreeMap<&TargetId, &Outcome> = BTreeMap::new();
    for (target, outcome) in &last.finished {
        assert!(ends.insert(target, outcome).is_none(), "{target} has two outcomes");
    }
    assert_eq!(ends.len(), plan.content.targets.len(), "{ends:?}");
    for target in &plan.content.targets {
        let (id, outcome) = (&target.target, ends[&target.target]);
        let executed: Vec<_> = executions.iter().filter(|one| one.tenant == id.tenant).collect();
        let healthy = world.is_healthy(&id.tenant);
        let (status, content) = world.truth(&id.tenant).unwrap_or(("none", None));
        let is_new = content.as_deref() == Some("t") && status.ends_with("E_COMPLETE") && !status.contains("ROLLBACK");
        let told = format!("{id} {outcome:?}, and is {status} with {content:?}, executed {}", executed.len());
        let expected: &[&str] = match executed.last() {
            Some(one) if hangs(one) => &["detached"],
            Some(one) => match (one.fate, healthy) {
                (Fate::Succeeds, true) => &["deployed"],
                (Fate::Succeeds, false) => &["failed"],
                (Fate::RollsBack, _) => &["rolled-back"],
                (Fate::RollbackFails, _) => &["rollback-failed"],
            },
            // Where nobody else has done anything, only the brakes keep a target from what was approved.
            None if meddled => &["unchanged", "failed", "skipped"],
            None if target.intent == Intent::Unchanged && healthy => &["unchanged"],
            None if target.intent == Intent::Unchanged => &["failed"],
            None if stopped_by.is_some() => &["skipped"],
            None => &[],
        };
        assert!(expected.contains(&outcome.name()), "expected {expected:?} ({stopped_by:?}): {told}");
        match outcome {
            Outcome::Deployed | Outcome::Unchanged => assert!(is_new && healthy, "{told}"),
            Outcome::RolledBack(_) => assert!(status.ends_with("ROLLBACK_COMPLETE"), "{told}"),
            Outcome::RollbackFailed(_) => assert!(status.ends_with("ROLLBACK_FAILED"), "{told}"),
            _ => {}
        }
    }
}

/// The waves come one after the other, each after its bake, and none comes after what stops the rollout. Returns what
/// has stopped it, if anything may have.
fn check_waves(
    world: &World,
    plan: &Plan,
    rollout: &Rollout,
    executions: &[world::Execution],
    (late, held): (&BTreeSet<String>, &BTreeSet<String>),
) -> Option<String> {
    let hangs = |one: &world::Execution| one.ends > one.began + rollout.deadline;
    // What a process found its lease over at for a moment, or could not read, was begun later, by another.
    let in_time = |one: &&&world::Execution| !held.contains(&one.tenant);
    // What was tried once more may have been mended before another machine, or whoever resumed, came to a wave.
    let mended = executions.iter().map(|one| &one.tenant).collect::<BTreeSet<_>>().len() < executions.len();
    let mut stopped_by = None;
    let (mut failures, mut alike, mut hanging, mut unhealthy) = (0, 0, 0, 0);
    let mut before: Option<(tokio::time::Instant, Duration)> = None;
    let waves = u32::try_from(rollout.waves.len().max(1)).unwrap();
    for wave in 0..waves {
        let is_member =
            |target: &&tenantry::plan::TargetContent| target.wave == wave && !late.contains(&target.target.tenant);
        let members: Vec<_> = plan.content.targets.iter().filter(is_member).collect();
        // Second tries come at the end.
        let first = |tenant: &str| executions.iter().find(|one| one.tenant == tenant);
        let executed: Vec<_> = members.iter().filter_map(|target| first(&target.target.tenant)).collect();
        if let Some(why) = stopped_by.as_ref().filter(|_| !executed.is_empty() && !mended) {
            panic!("wave {wave} was begun although {why}");
        }
        if let (Some((ended, bake)), Some(began)) = (before, executed.iter().filter(in_time).map(|one| one.began).min())
        {
            assert!(began >= ended + bake, "wave {wave} came {:?} after the one before", began - ended);
        }
        let policy = rollout.waves.get(wave as usize);
        let ended = executed.iter().filter(in_time).filter(|one| !hangs(one)).map(|one| one.ends).max();
        before = ended.map(|ended| (ended, policy.map_or(Duration::ZERO, |policy| policy.bake))).or(before);

        let is_bad = |target: &&&tenantry::plan::TargetContent| {
            let healthy = world.is_healthy(&target.target.tenant);
            match first(&target.target.tenant) {
                Some(one) => one.fate != Fate::Succeeds || hangs(one) || !healthy,
                None => target.intent == Intent::Unchanged && !healthy,
            }
        };
        let bad = members.iter().filter(is_bad).count();
        failures += bad;
        alike += executed.iter().filter(|one| one.fate != Fate::Succeeds && !hangs(one)).count();
        if rollout.on_failure == OnFailure::Stop {
            let may = policy
                .and_then(|policy| policy.failure_tolerance)
                .map(|may| may.of(plan.content.targets.iter().filter(|target| target.wave == wave).count()));
            if may.is_some_and(|may| bad > may) {
                stopped_by = Some(format!("{bad} of wave {wave} have failed"));
            }
            if failures > plan.content.tolerated() {
                stopped_by = Some(format!("{failures} have failed"));
            }
        }
        hanging += executed.iter().filter(|one| hangs(one)).count();
        if rollout.breaker.is_some_and(|most| alike.max(hanging) >= most as usize) {
            stopped_by = Some(format!("{} have failed alike", alike.max(hanging)));
        }
        // Checks that do not hold are alike too.
        let is_ill = |target: &&&tenantry::plan::TargetContent| match first(&target.target.tenant) {
            _ if world.is_healthy(&target.target.tenant) => false,
            Some(one) => one.fate == Fate::Succeeds && !hangs(one),
            None => target.intent == Intent::Unchanged,
        };
        unhealthy += members.iter().filter(is_ill).count();
        if stopped_by.is_none() && rollout.breaker.is_some_and(|most| unhealthy >= most as usize) {
            stopped_by = Some("checks have failed alike".to_owned());
        }
    }
    stopped_by
}

/// Plays seeds, and returns what came of all of them.
fn play_all<F: Future<Output = Told>>(standard: u64, play: impl Fn(u64) -> F) -> (u64, Told) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SEEDS").unwrap_or(standard),
    };
    let (mut total, mut failed) = (Told::default(), String::new());
    for seed in seeds.clone() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let told = catch_unwind(AssertUnwindSafe(|| runtime.block_on(play(seed))));
        match told {
            Ok(told) => {
                total.crashes += told.crashes;
                total.stops += told.stops;
                total.frozen += told.frozen;
                total.executions += told.executions;
                for (name, count) in told.outcomes {
                    *total.outcomes.entry(name).or_default() += count;
                }
            }
            Err(_) => _ = write!(failed, " {seed}"),
        }
    }
    let Told { crashes, stops, frozen, executions, outcomes } = &total;
    let count = seeds.end - seeds.start;
    println!("{count} seeds: {crashes} crashes, {stops} stops, {frozen} frozen, {executions} executions; {outcomes:?}");
    assert!(failed.is_empty(), "these seeds failed, each replays with SEED=N:{failed}");
    (count, total)
}

#[test]
fn whatever_happens_nothing_is_lost_and_nothing_done_twice() {
    let (seeds, total) = play_all(SEEDS, play);
    if seeds >= SEEDS {
        // A simulation in which nothing ever goes wrong shows nothing.
        assert!(total.crashes > 100 && total.stops > 100 && total.frozen > 100, "too little goes wrong");
        for name in ["deployed", "unchanged", "rolled-back", "rollback-failed", "failed", "skipped", "detached"] {
            assert!(total.outcomes.contains_key(name), "no seed has a target that is {name}");
        }
    }
}

#[test]
fn whatever_happens_to_shards_they_are_one_rollout() {
    let (seeds, total) = play_all(SHARDED, play_shards);
    if seeds >= SHARDED {
        assert!(total.crashes > 50 && total.stops > 50, "too little goes wrong");
    }
}
