//! The engine against a fleet in memory, in virtual time.

use std::time::Duration;

use super::fake::{Fleet, Script, on_the_clock, release};
use super::{Engine, Finished, PlanRequest, Planning};
use crate::domain::{
    ChangeSetStatus, ConcurrencyMode, Exit, FaultKind, Gate, Leftovers, Masks, OnFailure, Outcome, Quota, Rollout,
    StackEvent, StackOptions, Wave,
};
use crate::event::Event;
use crate::plan::{Intent, Origin, Secrets, Selection, StackVersion};

fn rollout(max_concurrency: u32, failure_tolerance: u32) -> Rollout {
    Rollout {
        max_concurrency: Quota::Count(max_concurrency),
        failure_tolerance: Quota::Count(failure_tolerance),
        ..Rollout::default()
    }
}

async fn plan(fleet: &std::sync::Arc<Fleet>, engine: &Engine, rollout: Rollout) -> Planning {
    let entered = fleet.entered(engine).await;
    engine.plan(&request(rollout), entered).await
}

fn request(rollout: Rollout) -> PlanRequest {
    PlanRequest {
        stage: "prod".into(),
        release: release(),
        origin: Origin::Direct,
        gate: Gate::Open,
        rollout,
        nested: false,
        body: None,
        options: StackOptions::default(),
        secrets: Secrets::default(),
        selection: Selection::default(),
        pinned: vec![],
    }
}

/// Plans and applies at once.
async fn released(fleet: &std::sync::Arc<Fleet>, rollout: Rollout) -> Vec<Finished> {
    let (engine, _heard, _handle) = fleet.engine();
    let planning = plan(fleet, &engine, rollout.clone()).await;
    engine.apply("r", planning, &request(rollout)).await.finished
}

fn names(finished: &[Finished]) -> Vec<(String, &'static str)> {
    let mut names: Vec<_> = finished.iter().map(|(target, outcome)| (target.tenant.clone(), outcome.name())).collect();
    names.sort();
    names
}

fn outcome<'a>(finished: &'a [Finished], tenant: &str) -> &'a Outcome {
    &finished.iter().find(|(target, _)| target.tenant == tenant).unwrap().1
}

fn script(change: impl FnOnce(&mut Script)) -> Script {
    let mut script = Script::default();
    change(&mut script);
    script
}

#[tokio::test(start_paused = true)]
async fn one_failing_target_stops_no_other_that_is_running() {
    let fleet = Fleet::new([
        ("fails", script(|s| s.ends = ("UPDATE_ROLLBACK_COMPLETE", Duration::from_secs(5)))),
        ("runs", script(|s| s.ends = ("UPDATE_COMPLETE", Duration::from_mins(10)))),
        ("waits", Script::default()),
    ]);
    let finished = released(&fleet, rollout(2, 0)).await;
    assert_eq!(
        names(&finished),
        [("fails".into(), "rolled-back"), ("runs".into(), "deployed"), ("waits".into(), "skipped")]
    );
    let failure = outcome(&finished, "fails").failure().unwrap();
    assert_eq!(failure.to_string(), "Function (AWS::Lambda::Function): bucket is taken");
    assert_eq!(fleet.count("waits ExecuteChangeSet"), 0);
    assert_eq!(Exit::of(finished.iter().map(|(_, outcome)| outcome), 0), Exit::Failed);
}

/// Plans, puts the targets into the waves that their names end with, and applies; tells also how long it took.
async fn in_waves(fleet: &std::sync::Arc<Fleet>, rollout: Rollout) -> (Vec<Finished>, Duration) {
    let (engine, _heard, _handle) = fleet.engine();
    let planning = planned_in_waves(fleet, &engine, &rollout).await;
    let begun = tokio::time::Instant::now();
    let finished = engine.apply("r", planning, &request(rollout)).await.finished;
    (finished, begun.elapsed())
}

/// Plans, and puts the targets into the waves that their names end with.
async fn planned_in_waves(fleet: &std::sync::Arc<Fleet>, engine: &Engine, rollout: &Rollout) -> Planning {
    let mut planning = plan(fleet, engine, rollout.clone()).await;
    let wave = |tenant: &str| tenant.rsplit('-').next().unwrap().parse().unwrap();
    for ready in &mut planning.ready {
        ready.target.wave = wave(&ready.target.id.tenant);
    }
    for target in &mut std::sync::Arc::make_mut(&mut planning.plan).content.targets {
        target.wave = wave(&target.target.tenant);
    }
    planning
}

fn wave(name: &str, bake: Duration, failure_tolerance: Option<u32>) -> Wave {
    Wave { name: name.into(), bake, failure_tolerance: failure_tolerance.map(Quota::Count) }
}

fn fails() -> Script {
    script(|s| s.ends = ("UPDATE_ROLLBACK_COMPLETE", Duration::from_secs(5)))
}

#[tokio::test(start_paused = true)]
async fn a_wave_waits_for_the_one_before_and_for_its_bake() {
    let fleet = Fleet::new([("a-0", Script::default()), ("b-1", Script::default()), ("c-0", Script::default())]);
    let waves = vec![wave("canary", Duration::from_hours(1), Some(0)), wave("rest", Duration::from_hours(9), None)];
    let (finished, took) = in_waves(&fleet, Rollout { waves, ..rollout(9, 0) }).await;
    assert!(finished.iter().all(|(_, outcome)| *outcome == Outcome::Deployed), "{finished:?}");
    assert!(took > Duration::from_hours(1) && took < Duration::from_hours(2), "nothing waits after the last: {took:?}");
    let calls = fleet.calls.lock().unwrap().clone();
    let place = |call: &str| calls.iter().position(|made| made == call).unwrap();
    assert!(place("b-1 ExecuteChangeSet") > place("a-0 Invoke").max(place("c-0 Invoke")));
}

/// A laptop sleeps in the middle of a rollout with a canary, for longer than its lock is leased: while its target is
/// deployed, and while it bakes. Returns how the next wave has ended, and how long the whole took.
async fn with_a_nap(at: Duration, bake: Duration, meanwhile: impl AsyncFn(Engine)) -> (String, Duration) {
    let fleet = Fleet::new([("a-0", Script::default()), ("b-1", Script::default())]);
    let (engine, _heard, _handle) = fleet.engine();
    let (engine, _heard) = on_the_clock(engine);
    let waves = vec![wave("canary", bake, Some(0)), wave("rest", Duration::ZERO, None)];
    let rollout = Rollout { waves, ..rollout(9, 0) };
    let planning = planned_in_waves(&fleet, &engine, &rollout).await;
    let begun = tokio::time::Instant::now();
    let request = request(rollout);
    let work = engine
        .locked("app", "prod", Duration::ZERO, async |engine| engine.apply("r", planning, &request).await.finished);
    let mut work = std::pin::pin!(work);
    assert!(tokio::time::timeout(at, &mut work).await.is_err(), "it is at work");
    meanwhile(Engine { run: "another".into(), ..engine.clone() }).await;
    let finished = work.await.unwrap();
    assert_eq!(*outcome(&finished, "a-0"), Outcome::Deployed);
    let next = outcome(&finished, "b-1");
    let why = next.failure().map(|failure| format!(": {failure}")).unwrap_or_default();
    (format!("{}{why}", next.name()), begun.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_bake_is_as_long_as_planned_also_where_the_machine_has_slept_for_longer_than_its_lease() {
    for at in [Duration::from_secs(1), Duration::from_mins(1)] {
        let bake = Duration::from_mins(30);
        let nap = async |_| tokio::time::sleep(Duration::from_mins(5)).await;
        let (next, took) = with_a_nap(at, bake, nap).await;
        assert_eq!(next, "deployed", "nobody has taken the lock: there is no reason to stop");
        assert!(took >= bake, "the next wave came after {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_bake_ends_where_somebody_else_has_taken_the_lock() {
    for at in [Duration::from_secs(1), Duration::from_mins(1)] {
        let another = async |other: Engine| {
            other.locked("app", "prod", Duration::from_hours(1), async |_| ()).await.unwrap();
        };
        let (next, took) = with_a_nap(at, Duration::from_hours(24), another).await;
        assert_eq!(next, "skipped: not started: the stage's lock is lost");
        assert!(took < Duration::from_mins(5), "it waits for nothing any more: {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_canary_stops_what_the_whole_would_tolerate() {
    let fleet = Fleet::new([("a-0", fails()), ("b-1", Script::default()), ("c-1", Script::default())]);
    let waves = vec![wave("canary", Duration::ZERO, Some(0)), wave("rest", Duration::ZERO, None)];
    let (finished, _) = in_waves(&fleet, Rollout { waves, ..rollout(9, 2) }).await;
    assert_eq!(names(&finished), [("a-0", "rolled-back"), ("b-1", "skipped"), ("c-1", "skipped")].map(named));
    let why = outcome(&finished, "b-1").failure().unwrap().to_string();
    assert_eq!(why, "not started: 1 of the wave failed, 0 may");
}

/// A rollout that was interrupted after its canary waits for the bake once more, also after one whose failures are
/// tolerated, and knows that the canary failed.
#[tokio::test(start_paused = true)]
async fn an_interrupted_canary_still_counts() {
    let hour = Duration::from_hours(1);
    let no = || crate::domain::Failure::because("no");
    for (ended, tolerated, expected, waits) in [
        (Outcome::Deployed, 0, "deployed", true),
        (Outcome::Failed(no()), 1, "deployed", true),
        (Outcome::RolledBack(no()), 0, "skipped", false),
    ] {
        let waves = vec![wave("canary", hour, Some(tolerated)), wave("rest", Duration::ZERO, None)];
        let rollout = Rollout { waves, ..rollout(9, 5) };
        let fleet = Fleet::new([("a-0", Script::default()), ("b-1", Script::default())]);
        let (engine, _heard, _handle) = fleet.engine();
        let mut planning = planned_in_waves(&fleet, &engine, &rollout).await;
        let canary = planning.ready.remove(0);
        planning.settled.push((canary.target, ended));
        planning.reached = Some(0);
        let begun = tokio::time::Instant::now();
        let finished = engine.apply("r", planning, &request(rollout.clone())).await.finished;
        assert_eq!(outcome(&finished, "b-1").name(), expected);
        assert_eq!(begun.elapsed() > hour, waits);
    }
}

/// Also where a target of a wave before it is left, which was to be tried once more.
#[tokio::test(start_paused = true)]
async fn an_interrupted_wave_is_baked_again_whatever_is_left_of_those_before() {
    let hour = Duration::from_hours(1);
    let waves = vec![wave("a", Duration::ZERO, None), wave("b", hour, None), wave("c", Duration::ZERO, None)];
    let rollout = Rollout { waves, ..rollout(9, 5) };
    let fleet = Fleet::new(["a-0", "b-1", "c-2"].map(|name| (name, Script::default())));
    let (engine, _heard, _handle) = fleet.engine();
    let mut planning = planned_in_waves(&fleet, &engine, &rollout).await;
    let over = planning.ready.remove(1);
    planning.settled.push((over.target, Outcome::Deployed));
    planning.reached = Some(1);
    let begun = tokio::time::Instant::now();
    let finished = engine.apply("r", planning, &request(rollout)).await.finished;
    assert!(finished.iter().all(|(_, outcome)| *outcome == Outcome::Deployed), "{finished:?}");
    assert!(begun.elapsed() > hour, "{:?}", begun.elapsed());
}

fn named((tenant, outcome): (&str, &'static str)) -> (String, &'static str) {
    (tenant.to_owned(), outcome)
}

#[tokio::test(start_paused = true)]
async fn the_same_failure_again_and_again_stops_even_what_goes_on_after_failures() {
    let scripts = ["a", "b", "c", "d", "e"].map(|name| (name, fails()));
    let goes_on = Rollout { on_failure: OnFailure::Continue, ..rollout(1, 0) };
    let finished = released(&Fleet::new(scripts.clone()), goes_on.clone()).await;
    assert_eq!(finished.iter().filter(|(_, outcome)| outcome.name() == "rolled-back").count(), 5);
    let finished = released(&Fleet::new(scripts), Rollout { breaker: Some(3), ..goes_on }).await;
    assert_eq!(finished.iter().filter(|(_, outcome)| outcome.name() == "rolled-back").count(), 3);
    let why = outcome(&finished, "e").failure().unwrap().to_string();
    assert_eq!(why, "not started: 3 failed alike: AWS::Lambda::Function: bucket is taken");
}

#[tokio::test(start_paused = true)]
async fn strict_never_has_more_in_work_than_may_fail_and_one() {
    let scripts = ["a", "b", "c", "d", "e", "f"].map(|name| (name, fails()));
    let strict = Rollout { concurrency_mode: ConcurrencyMode::Strict, ..rollout(6, 1) };
    let finished = released(&Fleet::new(scripts.clone()), strict).await;
    assert_eq!(finished.iter().filter(|(_, outcome)| outcome.is_failure()).count(), 2);
    let finished = released(&Fleet::new(scripts), rollout(6, 1)).await;
    assert_eq!(finished.iter().filter(|(_, outcome)| outcome.is_failure()).count(), 6, "soft lets what runs fail");
}

#[tokio::test(start_paused = true)]
async fn a_target_that_hangs_is_let_go_at_its_deadline() {
    let hangs = script(|s| s.ends = ("UPDATE_COMPLETE", Duration::from_hours(99)));
    let fleet = Fleet::new([("hangs", hangs), ("other", Script::default())]);
    let finished = released(&fleet, Rollout { deadline: Duration::from_hours(2), ..rollout(1, 1) }).await;
    assert_eq!(names(&finished), [("hangs", "detached"), ("other", "deployed")].map(named));
    let why = outcome(&finished, "hangs").failure().unwrap().to_string();
    assert_eq!(why, "it has not ended within its deadline; CloudFormation goes on with the stack");
}

#[tokio::test(start_paused = true)]
async fn failures_within_the_tolerance_let_the_rest_go_on() {
    let fleet = Fleet::new([
        ("fails", script(|s| s.ends = ("UPDATE_ROLLBACK_FAILED", Duration::from_secs(5)))),
        ("later", Script::default()),
    ]);
    let finished = released(&fleet, rollout(1, 1)).await;
    assert_eq!(names(&finished), [("fails".into(), "rollback-failed"), ("later".into(), "deployed")]);
}

/// Safety rule 2: what CloudFormation would do now is compared with what was approved.
#[tokio::test(start_paused = true)]
async fn a_change_behind_the_plans_back_is_refused() {
    let fleet = Fleet::new([("a", Script::default()), ("b", Script::default())]);
    let (engine, _heard, _handle) = fleet.engine();
    let planning = plan(&fleet, &engine, rollout(2, 0)).await;
    let entered = || planning.entered();
    let request = request(rollout(2, 0));
    let check = |entered| engine.recheck(&planning.plan, &request, entered);
    assert_eq!(check(entered()).await.ok().unwrap().ready.len(), 2);

    let mut fewer = entered();
    fewer.pop();
    assert_eq!(check(fewer).await.err().unwrap(), ["target b/eu-west-1 is gone"]);

    fleet.tamper("b");
    let problems = check(entered()).await.err().unwrap();
    assert_eq!(problems, ["target b/eu-west-1: CloudFormation would now do otherwise: Modify Other"]);
}

#[tokio::test(start_paused = true)]
async fn planning_twice_gives_the_same_digest_and_name() {
    let fleet = Fleet::new([("a", Script::default()), ("b", script(|s| s.status = None))]);
    let (engine, _heard, _handle) = fleet.engine();
    let one = plan(&fleet, &engine, rollout(2, 0)).await;
    let two = plan(&fleet, &engine, rollout(2, 0)).await;
    assert_eq!(one.plan.digest, two.plan.digest);
    let named =
        |planning: &Planning| -> Vec<String> { planning.ready.iter().map(|ready| ready.change_set.clone()).collect() };
    assert_eq!(named(&one), named(&two));
    assert!(matches!(one.plan.content.targets[1].intent, Intent::Create(_)));
}

#[tokio::test(start_paused = true)]
async fn a_change_set_that_takes_its_time_is_waited_for() {
    let fleet = Fleet::new([("slow", script(|s| s.creating_for = 20))]);
    let (engine, _heard, _handle) = fleet.engine();
    let planning = plan(&fleet, &engine, rollout(1, 0)).await;
    assert_eq!(planning.ready.len(), 1);
    assert_eq!(fleet.count("slow DescribeChangeSet"), 21);
    assert_eq!(fleet.count("slow CreateChangeSet"), 1);
}

#[tokio::test(start_paused = true)]
async fn no_changes_is_an_outcome_and_leaves_nothing_behind() {
    let fleet = Fleet::new([("same", script(|s| s.change_set = ChangeSetStatus::NoChanges))]);
    let (engine, _heard, _handle) = fleet.engine();
    let planning = plan(&fleet, &engine, rollout(1, 0)).await;
    assert!(planning.ready.is_empty() && fleet.is_tidy("same"));
    let finished = engine.apply("r", planning, &request(rollout(1, 0))).await.finished;
    assert_eq!(names(&finished), [("same".into(), "unchanged")]);
    assert_eq!(Exit::of(finished.iter().map(|(_, outcome)| outcome), 0), Exit::Done);
}

#[tokio::test(start_paused = true)]
async fn a_plan_that_nobody_can_apply_leaves_nothing_behind() {
    let fleet = Fleet::new([
        ("bad", script(|s| s.change_set = ChangeSetStatus::Failed("template error".into()))),
        ("good", Script::default()),
        ("new", script(|s| s.status = None)),
    ]);
    let (engine, _heard, _handle) = fleet.engine();
    let planning = plan(&fleet, &engine, rollout(9, 0)).await;
    assert!(planning.ready.is_empty());
    for tenant in ["bad", "good", "new"] {
        assert!(fleet.is_tidy(tenant), "{tenant}");
    }
    assert_eq!(fleet.count("new DeleteStack"), 1);
    assert_eq!(fleet.count("good DeleteStack"), 0);
}

/// Safety rule 4: a stack that may not be touched blocks, and nothing is created anywhere beyond the tolerance.
#[tokio::test(start_paused = true)]
async fn a_blocked_stack_stops_the_plan_before_anything_is_created() {
    for status in ["UPDATE_ROLLBACK_FAILED", "ROLLBACK_COMPLETE", "UPDATE_IN_PROGRESS", "UPDATE_PAUSED"] {
        let fleet = Fleet::new([("bad", script(|s| s.status = Some(status))), ("good", Script::default())]);
        let (engine, _heard, _handle) = fleet.engine();
        let planning = plan(&fleet, &engine, rollout(9, 0)).await;
        assert_eq!(planning.failures(), 2, "{status}");
        assert_eq!(fleet.count("good CreateChangeSet") + fleet.count("bad CreateChangeSet"), 0, "{status}");
        assert_eq!(fleet.count("bad DeleteStack"), 0, "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_target_within_the_tolerance_is_left_out_of_the_plan() {
    let fleet = Fleet::new([
        ("bad", script(|s| s.faults = vec![("AssumeRole", FaultKind::Denied)])),
        ("good", Script::default()),
    ]);
    let (engine, _heard, _handle) = fleet.engine();
    let planning = plan(&fleet, &engine, rollout(9, 1)).await;
    assert_eq!(planning.plan.content.targets[0].intent, Intent::Excluded);
    let finished = engine.apply("r", planning, &request(rollout(1, 0))).await.finished;
    assert_eq!(names(&finished), [("bad".into(), "failed"), ("good".into(), "deployed")]);
}

/// Safety rule 5: reads that fail in passing decide nothing.
#[tokio::test(start_paused = true)]
async fn throttled_and_expired_reads_never_decide_an_outcome() {
    use FaultKind::{Credentials, Throttled, Unreachable};
    let reads = |operation| {
        vec![(operation, Throttled), (operation, Credentials), (operation, Unreachable), (operation, Throttled)]
    };
    let fleet = Fleet::new([
        ("following", script(|s| s.faults = reads("DescribeStackEvents"))),
        ("planning", script(|s| s.faults = reads("DescribeChangeSet"))),
    ]);
    let finished = released(&fleet, rollout(2, 0)).await;
    assert_eq!(names(&finished), [("following".into(), "deployed"), ("planning".into(), "deployed")]);
    assert!(fleet.count("following DescribeStackEvents") > 4 && fleet.count("planning DescribeChangeSet") > 4);
}

/// What could not be read for minutes decides nothing about a target that was approved: whoever resumes starts it. A plan
/// has to say that it could not be planned.
#[tokio::test(start_paused = true)]
async fn an_approved_target_that_cannot_be_read_has_not_failed() {
    for operation in ["DescribeStacks", "DescribeChangeSet"] {
        for (kind, expected) in [(FaultKind::Throttled, "skipped"), (FaultKind::Denied, "failed")] {
            let fleet = Fleet::new([("a", script(|s| s.faults = vec![(operation, kind); 500]))]);
            let (engine, _heard, _handle) = fleet.engine();
            let attempt = std::sync::Arc::new(super::plan::Attempt::new(&engine, &request(rollout(1, 0))));
            let entered = fleet.entered(&engine).await.remove(0);
            let outcome = attempt.again(entered, None).await.result.err().unwrap();
            assert_eq!(outcome.name(), expected, "{operation} {kind:?}");

            let fleet = Fleet::new([("a", script(|s| s.faults = vec![(operation, kind); 500]))]);
            let (engine, _heard, _handle) = fleet.engine();
            let planning = plan(&fleet, &engine, rollout(1, 0)).await;
            assert_eq!(planning.settled[0].1.name(), "failed", "{operation} {kind:?}");
        }
    }
}

/// The same while its change set is made again, and while what its failed creation has left is deleted.
#[tokio::test(start_paused = true)]
async fn an_approved_target_that_cannot_be_planned_again_has_not_failed() {
    for (operation, status) in [("CreateChangeSet", "CREATE_COMPLETE"), ("DeleteStack", "ROLLBACK_COMPLETE")] {
        for (kind, expected) in [(FaultKind::Throttled, "skipped"), (FaultKind::Denied, "failed")] {
            let faults = vec![(operation, kind); 500];
            let fleet = Fleet::new([("a", script(|s| (s.faults, s.status) = (faults, Some(status))))]);
            let (engine, _heard, _handle) = fleet.engine();
            let options = StackOptions { leftovers: Leftovers::Recreate, ..StackOptions::default() };
            let request = PlanRequest { options, ..request(rollout(1, 0)) };
            let attempt = std::sync::Arc::new(super::plan::Attempt::new(&engine, &request));
            let entered = fleet.entered(&engine).await.remove(0);
            let target = entered.target.id.clone();
            let stale = StackVersion { target, stack_id: "another".into(), changed: None };
            let outcome = attempt.again(entered, Some(stale)).await.result.err().unwrap();
            assert_eq!(outcome.name(), expected, "{operation} {kind:?}");
        }
    }
}

/// Credentials that cannot be renewed for a while pause a target, before its execution and during it.
#[tokio::test(start_paused = true)]
async fn a_failed_renewal_pauses_a_target_and_decides_nothing() {
    for (operation, times) in [("AssumeRole", 100), ("DescribeStackEvents", 1000)] {
        let faults = vec![(operation, FaultKind::Credentials); times];
        let fleet = Fleet::new([("a", script(|s| s.faults = faults))]);
        let finished = released(&fleet, rollout(1, 0)).await;
        assert_eq!(names(&finished), [("a", "deployed")].map(named), "{operation}");
        assert_eq!(fleet.count("a ExecuteChangeSet"), 1);
    }
}

/// What lasts ends the following, but is told as what it is: the stack goes on.
#[tokio::test(start_paused = true)]
async fn a_stack_that_may_not_be_looked_at_any_more_is_detached() {
    let fleet = Fleet::new([("a", script(|s| s.faults = vec![("DescribeStackEvents", FaultKind::Denied)]))]);
    let finished = released(&fleet, rollout(1, 0)).await;
    assert_eq!(names(&finished), [("a".into(), "detached")]);
}

/// What CloudFormation refuses right after a lost answer is no proof that nothing runs: the stack tells.
#[tokio::test(start_paused = true)]
async fn a_refusal_after_a_lost_answer_is_followed_too() {
    let fleet = Fleet::new([("a", script(|s| s.refuses_after_effect = true))]);
    let finished = released(&fleet, rollout(1, 0)).await;
    assert_eq!(names(&finished), [("a".into(), "deployed")]);
    assert_eq!(fleet.count("a ExecuteChangeSet"), 1);
}

#[tokio::test(start_paused = true)]
async fn an_execution_that_is_refused_has_not_begun() {
    let fleet = Fleet::new([("a", script(|s| s.faults = vec![("ExecuteChangeSet", FaultKind::Invalid)]))]);
    let finished = released(&fleet, rollout(1, 0)).await;
    let failure = outcome(&finished, "a").failure().unwrap();
    assert!(failure.reason.starts_with("nothing was executed: "), "{failure}");
}

#[tokio::test(start_paused = true)]
async fn an_execution_that_is_throttled_is_asked_for_again() {
    let fleet = Fleet::new([("a", script(|s| s.faults = vec![("ExecuteChangeSet", FaultKind::Throttled)]))]);
    let finished = released(&fleet, rollout(1, 0)).await;
    assert_eq!(names(&finished), [("a".into(), "deployed")]);
    assert_eq!(fleet.count("a ExecuteChangeSet"), 2);
}

/// The stack's last event may come in behind the last one that was seen: then the stack itself is asked.
#[tokio::test(start_paused = true)]
async fn a_missed_last_event_ends_the_following_all_the_same() {
    let fleet = Fleet::new([(
        "a",
        script(|s| {
            s.hides_last_event = true;
            s.ends = ("UPDATE_ROLLBACK_COMPLETE", Duration::from_secs(30));
        }),
    )]);
    let (engine, _heard, _handle) = fleet.engine();
    let planning = plan(&fleet, &engine, rollout(1, 0)).await;
    let finished = tokio::time::timeout(Duration::from_mins(10), engine.apply("r", planning, &request(rollout(1, 0))))
        .await
        .unwrap()
        .finished;
    assert_eq!(names(&finished), [("a".into(), "rolled-back")]);
}

#[tokio::test(start_paused = true)]
async fn a_stack_that_ends_between_a_look_and_a_question_still_says_why() {
    let fleet = Fleet::new([(
        "a",
        script(|script| {
            script.ends = ("UPDATE_ROLLBACK_COMPLETE", Duration::from_secs(10));
            script.ends_between_looks = true;
        }),
    )]);
    let finished = released(&fleet, rollout(1, 0)).await;
    let failure = outcome(&finished, "a").failure().unwrap();
    assert_eq!((failure.resource.as_deref(), failure.reason.as_str()), (Some("Function"), "bucket is taken"));
}

/// Where the first looks fail for minutes, the first that does not fail does not decide alone that nothing has begun: here
/// it reads from a wrong time on.
#[tokio::test(start_paused = true)]
async fn looks_that_fail_for_minutes_do_not_show_that_nothing_began() {
    let faults = vec![("DescribeStackEvents", FaultKind::Unreachable); 100];
    let fleet = Fleet::new([("a", script(|script| script.faults = faults))]);
    let (engine, _heard, _handle) = fleet.engine();
    let mut planning = plan(&fleet, &engine, rollout(1, 0)).await;
    planning.ready[0].since = Some(jiff::Timestamp::MAX);
    let finished = engine.apply("r", planning, &request(rollout(1, 0))).await.finished;
    assert_eq!(*outcome(&finished, "a"), Outcome::Deployed);
}

/// An operation of somebody else on the same stack decides nothing about ours.
#[tokio::test(start_paused = true)]
async fn what_somebody_else_does_to_the_stack_is_not_taken_for_ours() {
    let fleet = Fleet::new([
        ("refused", script(|s| (s.foreign_events, s.refuses_after_effect) = (true, true))),
        ("taken", script(|s| s.foreign_events = true)),
    ]);
    let (engine, _heard, _handle) = fleet.engine();
    let planning = plan(&fleet, &engine, rollout(9, 0)).await;
    let finished = tokio::time::timeout(Duration::from_mins(30), engine.apply("r", planning, &request(rollout(1, 0))))
        .await
        .unwrap()
        .finished;
    for tenant in ["refused", "taken"] {
        assert!(!matches!(outcome(&finished, tenant), Outcome::Deployed), "{finished:?}");
    }
    assert_eq!(outcome(&finished, "taken").name(), "detached");
}

#[tokio::test(start_paused = true)]
async fn a_stop_in_the_middle_of_planning_leaves_nothing_behind() {
    let fleet = Fleet::new([
        ("ready", script(|s| s.status = None)),
        ("slow", script(|s| (s.status, s.creating_for) = (None, 12))),
    ]);
    let (engine, _heard, handle) = fleet.engine();
    let stop_later = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        handle.request();
    };
    let (planning, ()) = tokio::join!(plan(&fleet, &engine, rollout(9, 0)), stop_later);
    assert!(planning.ready.is_empty());
    assert!(planning.settled.iter().all(|(_, outcome)| outcome.name() == "skipped"));
    assert!(fleet.is_tidy("ready") && fleet.is_tidy("slow"));
}

/// A check that failed is not forgotten: the next run finds the stack unchanged, and looks again.
#[tokio::test(start_paused = true)]
async fn an_unchanged_target_is_verified_until_it_is_known_to_be_on_the_release() {
    let unchanged = |code: u16| {
        script(|s| {
            s.change_set = ChangeSetStatus::NoChanges;
            s.answers = serde_json::json!({ "statusCode": code });
        })
    };
    let fleet = Fleet::new([("bad", unchanged(500)), ("good", unchanged(200))]);
    let (engine, _heard, _handle) = fleet.engine();
    let planning = plan(&fleet, &engine, rollout(9, 9)).await;
    let finished = engine.apply("r", planning, &request(rollout(1, 0))).await.finished;
    assert_eq!(names(&finished), [("bad".into(), "failed"), ("good".into(), "unchanged")]);
    let planning = plan(&fleet, &engine, rollout(9, 9)).await;
    engine.apply("r", planning, &request(rollout(1, 0))).await;
    assert_eq!(fleet.count("good Invoke"), 1, "what is known is not looked at again");
    assert_eq!(fleet.count("bad Invoke"), 10);
}

/// A change set that another plan has made is taken up, and is not this run's to delete.
#[tokio::test(start_paused = true)]
async fn what_another_plan_has_made_is_not_discarded() {
    let fleet = Fleet::new([
        ("bad", script(|s| s.change_set = ChangeSetStatus::Failed("template error".into()))),
        ("shared", script(|s| s.finds_change_set = true)),
    ]);
    let (engine, _heard, _handle) = fleet.engine();
    let planning = plan(&fleet, &engine, rollout(9, 0)).await;
    assert!(planning.ready.is_empty());
    assert_eq!(fleet.count("shared DeleteChangeSet"), 0);
}

/// A change set that was left failed is made anew before it is believed.
#[tokio::test(start_paused = true)]
async fn a_failed_leftover_is_made_anew() {
    let fleet = Fleet::new([(
        "a",
        script(|s| {
            s.finds_change_set = true;
            s.change_set = ChangeSetStatus::Failed("an old reason".into());
        }),
    )]);
    let (engine, _heard, _handle) = fleet.engine();
    plan(&fleet, &engine, rollout(1, 0)).await;
    assert_eq!(fleet.count("a CreateChangeSet"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_stack_in_review_that_others_plan_on_is_not_deleted() {
    let fleet = Fleet::new([(
        "a",
        script(|s| {
            s.status = None;
            s.others_plan = true;
            s.change_set = ChangeSetStatus::Failed("template error".into());
        }),
    )]);
    let (engine, _heard, _handle) = fleet.engine();
    plan(&fleet, &engine, rollout(1, 0)).await;
    assert_eq!(fleet.count("a DeleteChangeSet"), 1);
    assert_eq!(fleet.count("a DeleteStack"), 0);
}

/// Safety rule 4: a stack that has completed by now is not deleted, whoever caused it to exist.
#[tokio::test(start_paused = true)]
async fn a_stack_that_has_completed_meanwhile_is_not_deleted() {
    let fleet = Fleet::new([(
        "a",
        script(|s| {
            s.status = None;
            s.becomes = Some("CREATE_COMPLETE");
            s.change_set = ChangeSetStatus::Failed("template error".into());
        }),
    )]);
    let (engine, _heard, _handle) = fleet.engine();
    plan(&fleet, &engine, rollout(1, 0)).await;
    assert_eq!(fleet.count("a DeleteStack"), 0);
}

/// Names of change sets can be read by many: a secret must not be found out by trying.
#[tokio::test(start_paused = true)]
async fn a_secret_goes_into_names_only_under_the_key() {
    let name = async |value: &str, key: &[u8]| {
        let fleet = Fleet::new([("a", Script::default())]);
        let (engine, _heard, _handle) = fleet.engine();
        let mut entered = fleet.entered(&engine).await;
        entered[0].target.parameters.insert("Password".into(), value.into());
        let secrets = Secrets::new(["Password".to_owned()].into(), Masks::default(), key.to_vec());
        let planning = engine.plan(&PlanRequest { secrets, ..request(rollout(1, 0)) }, entered).await;
        planning.ready[0].change_set.clone()
    };
    let one = name("hunter2", b"key").await;
    assert_ne!(one, name("hunter3", b"key").await, "another secret is another change");
    assert_ne!(one, name("hunter2", b"other").await, "without the key the name says nothing of the secret");
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_to_an_execution_is_no_second_execution() {
    let fleet = Fleet::new([("a", script(|s| s.loses_answer = true))]);
    let finished = released(&fleet, rollout(1, 0)).await;
    assert_eq!(names(&finished), [("a".into(), "deployed")]);
    assert_eq!(fleet.count("a ExecuteChangeSet"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_to_a_change_set_makes_no_second_one() {
    let fleet = Fleet::new([("a", script(|s| s.loses_creation = true))]);
    let finished = released(&fleet, rollout(1, 0)).await;
    assert_eq!(names(&finished), [("a".into(), "deployed")]);
    assert_eq!((fleet.count("a CreateChangeSet"), fleet.count("a DeleteChangeSet")), (2, 0));
    let calls = fleet.calls.lock().unwrap();
    let tokens: Vec<_> = calls.iter().filter_map(|call| call.strip_prefix("a creates by ")).collect();
    assert!(tokens.len() == 2 && tokens[0] == tokens[1], "both are one request: {tokens:?}");
}

/// The change set itself only says that early validation has failed.
#[tokio::test(start_paused = true)]
async fn a_change_set_that_early_validation_refuses_is_told_with_its_resource() {
    let refused = ChangeSetStatus::Failed("early validation failed".into());
    let validation = Some("the bucket's name is taken");
    let fleet = Fleet::new([("a", script(|s| (s.change_set, s.validation) = (refused, validation)))]);
    let finished = released(&fleet, rollout(1, 0)).await;
    let failure = outcome(&finished, "a").failure().unwrap();
    assert_eq!(failure.to_string(), "Function (AWS::Lambda::Function): the bucket's name is taken");
}

/// Safety rule 6: a stop starts nothing new and lets go of what runs, without touching it.
#[tokio::test(start_paused = true)]
async fn a_stop_detaches_what_runs_and_starts_nothing() {
    let fleet = Fleet::new([("a-runs", Script::default()), ("b-waits", Script::default())]);
    let (engine, _heard, handle) = fleet.engine();
    let planning = plan(&fleet, &engine, rollout(1, 0)).await;
    let stop_later = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        handle.request();
    };
    let request = request(rollout(1, 0));
    let (applied, ()) = tokio::join!(engine.apply("r", planning, &request), stop_later);
    let finished = applied.finished;
    assert_eq!(names(&finished), [("a-runs".into(), "detached"), ("b-waits".into(), "skipped")]);
    assert_eq!(fleet.count("b-waits ExecuteChangeSet"), 0);
    assert_eq!(fleet.count("a-runs DeleteStack"), 0);
    assert_eq!(Exit::of(finished.iter().map(|(_, outcome)| outcome), 0), Exit::Detached);
}

#[tokio::test(start_paused = true)]
async fn a_check_that_does_not_hold_fails_the_target() {
    let fleet = Fleet::new([("a", script(|s| s.answers = serde_json::json!({"statusCode": 500})))]);
    let finished = released(&fleet, rollout(1, 0)).await;
    let failure = outcome(&finished, "a").failure().unwrap();
    assert_eq!(failure.to_string(), "invoke a: /statusCode is 500, 200 was expected");
    assert_eq!(fleet.count("a Invoke"), 5);
}

#[tokio::test(start_paused = true)]
async fn destroy_deletes_and_leaves_running_operations_alone() {
    let fleet = Fleet::new([
        ("busy", script(|s| s.status = Some("UPDATE_IN_PROGRESS"))),
        ("gone", script(|s| s.status = None)),
        ("there", script(|s| s.ends = ("DELETE_COMPLETE", Duration::from_secs(3)))),
    ]);
    let (engine, _heard, _handle) = fleet.engine();
    let finished = engine.destroy("app", "prod", rollout(9, 3), fleet.entered(&engine).await).await;
    assert_eq!(names(&finished), [("busy".into(), "blocked"), ("gone".into(), "deleted"), ("there".into(), "deleted")]);
    assert_eq!(fleet.count("busy DeleteStack"), 0);
}

#[tokio::test(start_paused = true)]
async fn status_tells_stack_release_and_what_cannot_be_read() {
    let fleet = Fleet::new([
        ("a", Script::default()),
        ("b", script(|s| s.faults = vec![("AssumeRole", FaultKind::Denied), ("AssumeRole", FaultKind::Denied)])),
    ]);
    let (engine, _heard, _handle) = fleet.engine();
    let planning = plan(&fleet, &engine, rollout(1, 1)).await;
    engine.apply("r", planning, &request(rollout(1, 0))).await;
    let status = engine.status("app", "prod", fleet.entered(&engine).await, vec![], false).await;
    assert_eq!(status[0].release, Some(release().id));
    assert_eq!(status[0].status.as_deref(), Some("UPDATE_COMPLETE"));
    assert!(status[1].problem.as_deref().unwrap().contains("AssumeRole"));
}

#[tokio::test(start_paused = true)]
async fn every_target_moves_only_forward_and_ends_once() {
    let fleet = Fleet::new([
        ("a", Script::default()),
        ("b", script(|s| s.ends = ("UPDATE_ROLLBACK_COMPLETE", Duration::from_secs(1)))),
        ("c", script(|s| s.change_set = ChangeSetStatus::NoChanges)),
    ]);
    let (engine, mut heard, _handle) = fleet.engine();
    let planning = plan(&fleet, &engine, rollout(9, 3)).await;
    engine.apply("r", planning, &request(rollout(1, 0))).await;
    let mut ends = 0;
    while let Ok(event) = heard.try_recv() {
        match event.event {
            Event::Moved { from, to, .. } => assert!(from < to, "{from:?} to {to:?}"),
            Event::Finished { .. } => ends += 1,
            _ => {}
        }
    }
    assert_eq!(ends, 3);
}

/// Safety rule 8: who has lost the lock executes nothing, also where a target was on its way already.
#[tokio::test(start_paused = true)]
async fn nothing_is_executed_under_a_lock_that_is_lost() {
    let fleet = Fleet::new([("a", Script::default()), ("b", Script::default())]);
    let (engine, _heard, _handle) = fleet.engine();
    let planning = plan(&fleet, &engine, rollout(1, 0)).await;
    let late = plan(&fleet, &engine, rollout(1, 0)).await;
    let work = engine.locked("app", "prod", Duration::ZERO, async |engine| {
        let lock = engine.store.get("tenantry/app/locks/prod.json").await.unwrap().unwrap();
        engine.store.replace("tenantry/app/locks/prod.json", b"{}".to_vec(), Some(&lock.1)).await.unwrap();
        tokio::time::sleep(Duration::from_mins(5)).await;
        // Even where nobody has heard of the loss: the lease alone says it.
        let (_handle, deaf) = super::Stop::new();
        let deaf = Engine { stop: deaf, ..engine.clone() };
        (
            engine.apply("r", planning, &request(rollout(1, 0))).await.finished,
            deaf.apply("r", late, &request(rollout(1, 0))).await.finished,
        )
    });
    let (stopped, deaf) = work.await.ok().unwrap();
    for finished in [stopped, deaf] {
        assert_eq!(names(&finished), [("a".into(), "skipped"), ("b".into(), "skipped")]);
    }
    assert_eq!(fleet.count("a ExecuteChangeSet") + fleet.count("b ExecuteChangeSet"), 0);
}

/// Safety rule 2: what needed no change when it was planned is looked at again, and only what says the same goes on.
#[tokio::test(start_paused = true)]
async fn a_stack_that_needed_no_change_and_has_moved_is_planned_again() {
    let same = script(|s| s.change_set = ChangeSetStatus::NoChanges);
    let fleet = Fleet::new([("a", Script::default()), ("same", same)]);
    let (engine, _heard, _handle) = fleet.engine();
    let planning = plan(&fleet, &engine, rollout(2, 0)).await;
    let request = request(rollout(2, 0));
    let check = || engine.recheck(&planning.plan, &request, planning.entered());

    let made = fleet.count("same CreateChangeSet");
    assert_eq!(check().await.ok().unwrap().unchanged.len(), 1);
    assert_eq!(fleet.count("same CreateChangeSet"), made, "nobody has touched it: one look is enough");
    fleet.touch("same", false);
    assert_eq!(check().await.ok().unwrap().unchanged.len(), 1, "it still needs none");
    assert_eq!(fleet.count("same CreateChangeSet"), made + 1);
    fleet.touch("same", true);
    let problems = check().await.err().unwrap();
    assert_eq!(problems, ["target same/eu-west-1: CloudFormation would now do otherwise: Modify Function"]);
    assert!(fleet.is_tidy("same"));
}

/// A change set that is no longer valid is made again; the approval is for what it says.
#[tokio::test(start_paused = true)]
async fn a_lost_change_set_is_made_again_and_cleared_away_where_it_says_something_else() {
    let fleet = Fleet::new([("a", Script::default()), ("b", Script::default())]);
    let (engine, _heard, _handle) = fleet.engine();
    let planning = plan(&fleet, &engine, rollout(2, 0)).await;
    let account = planning.ready[0].account.clone();
    let request = request(rollout(2, 0));
    account.delete_change_set("app-a", "x").await.unwrap();
    let rechecked = engine.recheck(&planning.plan, &request, planning.entered()).await.ok().unwrap();
    assert_eq!(rechecked.plan.digest, planning.plan.digest);
    assert!(rechecked.ready.iter().any(|ready| ready.ours), "it is this run's own now");

    account.delete_change_set("app-a", "x").await.unwrap();
    fleet.tamper("a");
    let problems = engine.recheck(&planning.plan, &request, planning.entered()).await.err().unwrap();
    assert_eq!(problems, ["target a/eu-west-1: CloudFormation would now do otherwise: Modify Other"]);
    assert!(fleet.is_tidy("a"), "what was made again is cleared away");
    assert!(!fleet.is_tidy("b"), "what the plan has made stays");
}

/// A stop is no alarm where it ends the watching: nothing is started, and who resumes watches again. Only a rollout
/// of which nothing is left has not succeeded until its alarms are known.
#[tokio::test(start_paused = true)]
async fn a_stop_while_alarms_cannot_be_read_is_no_alarm_unless_nothing_is_left() {
    let unreadable = script(|s| s.faults = vec![("DescribeAlarms", FaultKind::Unreachable); 1000]);
    for (tenants, bake, is_alarm) in [("b-1", 0, false), ("b-1", 10, false), ("b-0", 0, true)] {
        let fleet = Fleet::new([("a-0", unreadable.clone()), (tenants, Script::default())]);
        let (engine, _heard, handle) = fleet.engine();
        let waves = vec![wave("canary", Duration::from_mins(bake), Some(0)), wave("rest", Duration::ZERO, None)];
        let rollout = Rollout { waves, ..rollout(9, 0) };
        let mut planning = planned_in_waves(&fleet, &engine, &rollout).await;
        for ready in &mut planning.ready {
            ready.target.alarms = vec![crate::domain::Alarm { name: "quiet".into(), roll_back: false }];
        }
        let request = request(rollout);
        let stop = async {
            tokio::time::sleep(Duration::from_secs(15)).await;
            handle.request();
        };
        let (applied, ()) = tokio::join!(engine.apply("r", planning, &request), stop);
        assert!(fleet.count("a-0 DescribeAlarms") > 1);
        assert_eq!(applied.alarm.is_some(), is_alarm, "{:?}", applied.alarm);
        let skipped = applied.finished.iter().any(|(_, outcome)| matches!(outcome, Outcome::Skipped(_)));
        assert_eq!(skipped, !is_alarm);
    }
}

/// An alarm of the tooling account or of a canary's account stops the rollout while it bakes; that is a failure.
#[tokio::test(start_paused = true)]
async fn an_alarm_that_goes_off_while_a_wave_bakes_stops_the_rollout() {
    for (tooling, tenants, off) in [("loud", "quiet", true), ("quiet", "loud", true), ("quiet", "quiet", false)] {
        let fleet = Fleet::new([("a-0", Script::default()), ("b-1", Script::default())]);
        *fleet.loud_after.lock().unwrap() = Some(Duration::from_mins(5));
        let (engine, _heard, _handle) = fleet.engine();
        let waves = vec![wave("canary", Duration::from_mins(10), Some(0)), wave("rest", Duration::ZERO, None)];
        let rollout = Rollout { waves, alarms: vec![tooling.to_owned()], ..rollout(9, 0) };
        let mut planning = plan(&fleet, &engine, rollout.clone()).await;
        let alarm = crate::domain::Alarm { name: tenants.into(), roll_back: false };
        for (number, ready) in (0..).zip(&mut planning.ready) {
            ready.target.wave = number;
            ready.target.alarms = vec![alarm.clone()];
        }
        for (number, target) in (0..).zip(&mut std::sync::Arc::make_mut(&mut planning.plan).content.targets) {
            target.wave = number;
        }
        let begun = tokio::time::Instant::now();
        let applied = engine.apply("r", planning, &request(rollout)).await;
        assert_eq!(applied.alarm.is_some(), off, "{tooling} {tenants}");
        let expected = if off { "skipped" } else { "deployed" };
        assert_eq!(names(&applied.finished), [("a-0", "deployed"), ("b-1", expected)].map(named));
        let at_once = begun.elapsed() < Duration::from_mins(6);
        assert_eq!(at_once, off, "it does not wait for the end of the bake: {:?}", begun.elapsed());
    }
}

/// What is not there watches nothing: that is known before anything is executed.
#[tokio::test(start_paused = true)]
async fn an_alarm_that_does_not_exist_stops_the_rollout_before_it_begins() {
    let fleet = Fleet::new([("a", Script::default())]);
    let (engine, _heard, _handle) = fleet.engine();
    let rollout = Rollout { alarms: vec!["missing".to_owned()], ..rollout(9, 0) };
    let planning = plan(&fleet, &engine, rollout.clone()).await;
    let applied = engine.apply("r", planning, &request(rollout)).await;
    assert_eq!(applied.alarm.as_deref(), Some("alarm missing does not exist"));
    assert_eq!(fleet.count("a ExecuteChangeSet"), 0);
}

/// A canary that was deployed before and whose check fails holds back the others, although it needs no change.
#[tokio::test(start_paused = true)]
async fn an_unchanged_canary_that_is_not_well_holds_back_the_rest() {
    let ill = script(|s| {
        s.change_set = ChangeSetStatus::NoChanges;
        s.answers = serde_json::json!({"statusCode": 500});
    });
    let fleet = Fleet::new([("a", ill), ("b", Script::default())]);
    let (engine, _heard, _handle) = fleet.engine();
    let waves = vec![wave("canary", Duration::ZERO, Some(0)), wave("rest", Duration::ZERO, None)];
    let rollout = Rollout { waves, ..rollout(9, 1) };
    let mut planning = plan(&fleet, &engine, rollout.clone()).await;
    planning.ready[0].target.wave = 1;
    std::sync::Arc::make_mut(&mut planning.plan).content.targets[1].wave = 1;
    let finished = engine.apply("r", planning, &request(rollout)).await.finished;
    assert_eq!(names(&finished), [("a", "failed"), ("b", "skipped")].map(named));
}

/// Why a nested stack has failed stands in its own events.
#[tokio::test(start_paused = true)]
async fn the_cause_of_a_nested_stacks_failure_is_found_within_it() {
    let nested = script(|s| {
        s.ends = ("UPDATE_ROLLBACK_COMPLETE", Duration::from_secs(5));
        s.nested = true;
    });
    let finished = released(&Fleet::new([("a", nested)]), rollout(1, 0)).await;
    let failure = outcome(&finished, "a").failure().unwrap().to_string();
    assert_eq!(failure, "Function/Table (AWS::DynamoDB::Table): bucket is taken");
}

/// A stack's history: its own events have no name, and names of nested stacks begin with `N`.
fn history(events: &[(&str, &str, &str)]) -> Vec<StackEvent> {
    let event = |(name, status, reason): &(&str, &str, &str)| StackEvent {
        id: String::new(),
        time: None,
        logical_id: (*name).to_owned(),
        physical_id: Some(nested(name)).filter(|_| name.starts_with('N')),
        resource_type: if name.starts_with('N') { "AWS::CloudFormation::Stack" } else { "AWS::SQS::Queue" }.to_owned(),
        status: (*status).to_owned(),
        reason: Some((*reason).to_owned()),
        is_stack: name.is_empty(),
        token: None,
    };
    events.iter().map(event).collect()
}

fn nested(name: &str) -> String {
    format!("arn:aws:cloudformation:eu-west-1:222222222222:stack/app-a-{name}-1A2B/0")
}

/// What a stack tells whose rollback has failed at some resources, as `(resource, its last status, why)`.
fn stuck_at(events: &[(&str, &str, &str)]) -> Vec<StackEvent> {
    let begin =
        [("", "UPDATE_IN_PROGRESS", ""), ("Broken", "CREATE_FAILED", "no"), ("", "UPDATE_ROLLBACK_IN_PROGRESS", "")];
    history(&[&begin, events, &[("", "UPDATE_ROLLBACK_FAILED", "")]].concat())
}

/// Recovers one target whose stacks have these histories, and returns what is shown and what is sent to be skipped.
async fn recovered(root: Vec<StackEvent>, inner: &[(&str, Vec<StackEvent>)], skip: &str) -> (Vec<String>, Vec<String>) {
    let stuck = script(|s| {
        s.status = Some("UPDATE_ROLLBACK_FAILED");
        s.ends = ("UPDATE_ROLLBACK_COMPLETE", Duration::from_secs(5));
        s.histories = inner.iter().map(|(name, events)| (nested(name), events.clone())).collect();
        s.histories.insert("arn:stack/app-a".to_owned(), root);
    });
    let fleet = Fleet::new([("a", stuck)]);
    let (engine, _heard, _handle) = fleet.engine();
    let entered = fleet.entered(&engine).await;
    let (stuck, unread) = engine.stuck(entered).await;
    let held = stuck.iter().flat_map(|stuck| &stuck.resources);
    let unread = unread.iter().map(|(_, outcome)| format!("{}: {}", outcome.name(), outcome.failure().unwrap()));
    let shown = held.map(|held| held.failure.to_string().replace(" (AWS::SQS::Queue)", "")).chain(unread).collect();
    let finished = engine.recover("prod", rollout(1, 0), stuck, &[skip.to_owned()]).await;
    assert!(finished.iter().all(|(_, outcome)| *outcome == Outcome::Recovered), "{finished:?}");
    let calls = fleet.calls.lock().unwrap();
    (shown, calls.iter().filter_map(|call| call.strip_prefix("a skips ")).map(str::to_owned).collect())
}

/// What failed in a nested stack is shown as its own, and skipped by the name that CloudFormation gave that stack: in each
/// account another one.
#[tokio::test(start_paused = true)]
async fn what_is_skipped_in_a_nested_stack_is_named_as_cloudformation_names_it() {
    let root = stuck_at(&[
        ("Work", "UPDATE_FAILED", "it is gone"),
        ("Topic", "UPDATE_FAILED", "Resource update cancelled"),
        ("Net", "UPDATE_FAILED", "Embedded stack was not successfully updated"),
    ]);
    let net = stuck_at(&[("Queue", "UPDATE_FAILED", "it is gone, too"), ("NDeep", "UPDATE_FAILED", "Embedded")]);
    let deep = stuck_at(&[("Queue", "UPDATE_FAILED", "the deepest is gone")]);
    for (skip, sent) in [
        ("Net/Queue", "app-a-Net-1A2B.Queue"),
        ("Net.Queue", "app-a-Net-1A2B.Queue"),
        ("app-a-Net-1A2B.Queue", "app-a-Net-1A2B.Queue"),
        ("Net/NDeep/Queue", "app-a-NDeep-1A2B.Queue"),
        ("Work", "Work"),
        // Neither can be skipped.
        ("Net", ""),
        ("Topic", ""),
    ] {
        let inner = [("Net", net.clone()), ("NDeep", deep.clone())];
        let (shown, skipped) = recovered(root.clone(), &inner, skip).await;
        let expected = ["Work: it is gone", "Net/Queue: it is gone, too", "Net/NDeep/Queue: the deepest is gone"];
        assert_eq!(shown, expected);
        assert_eq!(skipped, [sent], "{skip}");
    }
}

/// An attempt to continue may end before it comes to any resource, as one that was to skip what cannot be skipped; what
/// came back meanwhile is no longer in the way.
#[tokio::test(start_paused = true)]
async fn what_is_in_the_way_is_known_after_attempts_in_vain() {
    let root = stuck_at(&[
        ("Work", "UPDATE_FAILED", "it is gone"),
        ("Back", "UPDATE_FAILED", "not now"),
        ("", "UPDATE_ROLLBACK_FAILED", ""),
        ("", "UPDATE_ROLLBACK_IN_PROGRESS", ""),
        ("Back", "UPDATE_COMPLETE", ""),
        ("", "UPDATE_ROLLBACK_FAILED", ""),
        ("", "UPDATE_ROLLBACK_IN_PROGRESS", ""),
    ]);
    let before = stuck_at(&[("Former", "UPDATE_FAILED", "this was another update")]);
    let (shown, skipped) = recovered([before, root].concat(), &[], "Work").await;
    assert_eq!(shown, ["Work: it is gone"]);
    assert_eq!(skipped, ["Work"]);
}

/// A parent may tell of a nested stack that it was cancelled, and be wrong.
#[tokio::test(start_paused = true)]
async fn a_nested_stack_says_itself_whether_it_is_stuck() {
    let root = |reason| stuck_at(&[("Net", "UPDATE_FAILED", reason)]);
    let cancelled = "Resource update cancelled";
    let queue = stuck_at(&[("Queue", "UPDATE_FAILED", "it is gone")]);
    let (shown, _) = recovered(root(cancelled), &[("Net", queue)], "").await;
    assert_eq!(shown, ["Net/Queue: it is gone"]);
    // Nothing in it is in the way: it is tried again, and cannot be skipped.
    let (shown, skipped) =
        recovered(root("why"), &[("Net", stuck_at(&[("Queue", "UPDATE_FAILED", cancelled)]))], "Net").await;
    assert_eq!((shown, skipped), (vec!["Net (AWS::CloudFormation::Stack): why".to_owned()], vec![String::new()]));
    let (shown, _) = recovered(root(cancelled), &[("Net", history(&[("", "UPDATE_ROLLBACK_COMPLETE", "")]))], "").await;
    assert_eq!(shown, [""; 0]);
    // What was deleted can be skipped as a whole.
    for gone in [history(&[("", "DELETE_COMPLETE", "")]), vec![]] {
        let (_, skipped) = recovered(root("why"), &[("Net", gone)], "Net").await;
        assert_eq!(skipped, ["Net"]);
    }
}

/// Without it nobody would know what is skipped and what is tried again.
#[tokio::test(start_paused = true)]
async fn a_target_of_which_a_nested_stack_cannot_be_read_is_not_recovered() {
    let root = stuck_at(&[("Net", "UPDATE_FAILED", "why")]);
    let (shown, skipped) = recovered(root, &[], "Net/Queue").await;
    assert_eq!(shown, ["failed: DescribeStackEvents: not of this stack"]);
    assert_eq!(skipped, [""; 0]);
}

/// Safety rule 6: a stop while a target is verified fails nobody.
#[tokio::test(start_paused = true)]
async fn a_stop_while_a_target_is_verified_is_no_failure() {
    let ill = script(|s| s.answers = serde_json::json!({"statusCode": 500}));
    let fleet = Fleet::new([("a", ill)]);
    let (engine, _heard, handle) = fleet.engine();
    let planning = plan(&fleet, &engine, rollout(1, 0)).await;
    let stop = async {
        while fleet.count("a Invoke") == 0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        handle.request();
    };
    let request = request(rollout(1, 0));
    let (applied, ()) = tokio::join!(engine.apply("r", planning, &request), stop);
    assert_eq!(names(&applied.finished), [("a", "detached")].map(named));
}

/// A busy stack is waited for: what a run that was killed has begun comes to its end.
#[tokio::test(start_paused = true)]
async fn a_stack_that_somebody_else_changes_is_waited_for() {
    let fleet = Fleet::new([("a", script(|s| s.busy_for = Duration::from_mins(4)))]);
    let begun = tokio::time::Instant::now();
    let finished = released(&fleet, rollout(1, 0)).await;
    assert_eq!(names(&finished), [("a", "deployed")].map(named));
    assert!(begun.elapsed() > Duration::from_mins(4));
    let fleet = Fleet::new([("a", script(|s| s.busy_for = Duration::from_hours(9)))]);
    let (engine, _heard, _handle) = fleet.engine();
    let planning = plan(&fleet, &engine, rollout(1, 0)).await;
    assert!(matches!(planning.settled[0].1, Outcome::Blocked(_)), "{:?}", planning.settled);
}

/// Safety rule 7: what a tenant's stack says may repeat a secret; it is in no record.
#[tokio::test(start_paused = true)]
async fn what_stacks_say_is_kept_without_secrets() {
    let fleet = Fleet::new([("a", fails())]);
    let (engine, _heard, _handle) = fleet.engine();
    let (engine, _heard) = super::fake::on_the_clock(engine);
    let secrets =
        Secrets::new(std::collections::BTreeSet::new(), Masks::new(["bucket is taken".to_owned()]), b"key".to_vec());
    let request = PlanRequest { secrets, ..request(rollout(1, 0)) };
    let planning = engine.plan(&request, fleet.entered(&engine).await).await;
    let plan = planning.plan.clone();
    let execution =
        super::Execution { plan: &plan, request: &request, settled: None, before: None, wait: Duration::ZERO };
    let done = engine.roll_out(execution, planning.entered()).await.unwrap();
    assert_eq!(done.finished[0].1.failure().unwrap().reason, "bucket is taken", "the console masks it by itself");
    let mut read = 0;
    for key in engine.store.list("").await.unwrap() {
        let (bytes, _) = engine.store.get(&key).await.unwrap().unwrap();
        let text = String::from_utf8(bytes).unwrap();
        assert!(!text.contains("bucket is taken"), "{key}: {text}");
        read += usize::from(text.contains("hmac-sha256:"));
    }
    assert!(read >= 2, "the journal and the record of the rollout have the covered reason");
}

/// One answer from elsewhere counts for one plan and one round, whether it was read alone or together with others.
#[tokio::test(start_paused = true)]
async fn an_answer_from_elsewhere_counts_once() {
    use crate::domain::{ApprovalPolicy, Identity};
    use crate::engine::Recorded;
    use crate::plan::{Approval, Decision};
    let fleet = Fleet::new([("a", Script::default())]);
    let (engine, _heard, _handle) = fleet.engine();
    let secrets = Secrets::sealing(b"key".to_vec());
    let policy = ApprovalPolicy::default();
    let gate = Gate::Approval(policy.clone());
    let request = PlanRequest { secrets: secrets.clone(), gate, ..request(rollout(1, 0)) };
    let planning = engine.plan(&request, fleet.entered(&engine).await).await;
    let mut plan = crate::plan::Plan::clone(&planning.plan);
    engine.keep_plan(&mut plan, &secrets).await.unwrap();
    let review = |plan: &crate::plan::Plan, number: u32| Approval {
        version: 1,
        application: "app".into(),
        stage: "prod".into(),
        plan: plan.digest,
        round: plan.round,
        decision: Decision::Approved,
        by: Identity { principal: "github:octocat".into(), source_identity: None },
        recorded_by: None,
        via: "github".into(),
        source: Some(format!("run 1, review {number}")),
        at: jiff::Timestamp::UNIX_EPOCH,
        until: jiff::Timestamp::UNIX_EPOCH + Duration::from_hours(1),
        seen: vec![],
        comment: None,
    };
    // Two reviews by one person, read together.
    assert_eq!(engine.decide(&plan, &policy, review(&plan, 1), &secrets).await.unwrap(), Recorded::New);
    assert_eq!(engine.decide(&plan, &policy, review(&plan, 2), &secrets).await.unwrap(), Recorded::Known);
    engine.use_up(&plan, "rollout").await.unwrap();
    // Planned again, neither opens the next round, nor another plan.
    engine.keep_plan(&mut plan, &secrets).await.unwrap();
    assert_eq!(plan.round, 1);
    let mut other = plan.clone();
    other.digest = crate::domain::Digest::of("another");
    for plan in [&plan, &other] {
        for number in [1, 2] {
            assert_eq!(engine.decide(plan, &policy, review(plan, number), &secrets).await.unwrap(), Recorded::Spent);
        }
    }
    assert_eq!(engine.decide(&plan, &policy, review(&plan, 3), &secrets).await.unwrap(), Recorded::New);
}

/// A canary that could not be started has shown nothing: the others wait.
#[tokio::test(start_paused = true)]
async fn a_canary_that_cannot_be_started_holds_back_the_rest() {
    let throttled = script(|s| s.faults = vec![("ExecuteChangeSet", FaultKind::Throttled); 500]);
    let fleet = Fleet::new([("a-0", throttled), ("b-1", Script::default())]);
    let waves = vec![wave("canary", Duration::ZERO, Some(0)), wave("rest", Duration::ZERO, None)];
    let (finished, _) = in_waves(&fleet, Rollout { waves, ..rollout(9, 5) }).await;
    assert_eq!(names(&finished), [("a-0", "skipped"), ("b-1", "skipped")].map(named));
    assert_eq!(fleet.count("b-1 ExecuteChangeSet"), 0);
}
