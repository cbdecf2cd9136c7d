//! Executing exactly a plan, and following every stack to its end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::access::Entered;
use super::brakes::Brakes;
use super::follow::{Ending, Operation, follow, still_running};
use super::pace::Pace;
use super::patience::{Patience, patiently};
use super::plan::{Attempt, PlanRequest, Planned, Planning, Ready};
use super::verify::verify;
use super::watch::Watched;
use super::window::{self, Flow};
use super::{Engine, LedgerEntry, Progress, Stop, ledger, records};
use crate::domain::lifecycle::{State, Step};
use crate::domain::stack::Settled;
use crate::domain::{
    Change, Digest, Failure, Fault, Outcome, Release, Stack, StackStatus, Tally, Target, TargetId, Wave,
};
use crate::event::{Event, Phase, Prepared};
use crate::plan::{Intent, Plan};
use crate::ports::TenantAccount;

/// How many looks a stack has to show that an operation has begun: about eight seconds.
const LOOKS: u32 = 8;

/// A target with its outcome.
pub type Finished = (TargetId, Outcome);

impl Engine {
    /// Executes a planning's change sets, wave by wave, never more than `max-concurrency` at a time, and returns how
    /// every target ended, those that were settled by the plan included.
    ///
    /// Where the brakes hold, nothing new is started; what runs is followed to its end. What has failed is tried once
    /// more at the end, if the stage wants that and CloudFormation would still do the same.
    pub async fn apply(&self, rollout: &str, planning: Planning, request: &PlanRequest) -> Applied {
        let Planning { plan, ready, unchanged, settled } = planning;
        let stage = plan.content.stage.clone();
        if !ready.is_empty() {
            self.events.emit(Event::PhaseStarted { phase: Phase::Apply, stage: stage.clone(), targets: ready.len() });
        }
        let run = Arc::new(Run::new(self, rollout, request, plan));
        let mut brakes = Brakes::new(&run.plan.content);
        for (target, outcome) in &settled {
            brakes.seen(&target.id, outcome);
        }
        if brakes.held().is_none() {
            run.bake_again(&settled, &ready, &mut brakes).await;
        }
        if !ready.is_empty() {
            run.watch_wave(&[], Duration::ZERO, &mut brakes).await;
        }
        let mut finished = run.waves(ready, unchanged, &mut brakes).await;
        finished.extend(settled.into_iter().map(|(target, outcome)| (target.id, outcome)));
        let tally = Tally::of(finished.iter().map(|(_, outcome)| outcome));
        self.events.emit(Event::PhaseFinished { phase: Phase::Apply, stage, tally });
        Applied { finished, alarm: brakes.alarm().map(str::to_owned) }
    }
}

/// How a plan's execution has ended.
#[derive(Debug)]
pub struct Applied {
    /// How every target ended.
    pub finished: Vec<Finished>,
    /// The alarm that has stopped it, if one has.
    pub alarm: Option<String>,
}

/// A target that needs no change, with the way into its account.
type Entrance = (Target, Arc<dyn TenantAccount>);

/// What all targets of a rollout share.
struct Run {
    engine: Engine,
    rollout: String,
    plan: Arc<Plan>,
    release: Release,
    attempt: Arc<Attempt>,
}

/// How far a target has come.
enum Tried {
    /// It has its outcome.
    Finished(Finished),
    /// It has failed, and is tried once more at the end.
    Again(Box<Again>),
}

/// A target that is tried once more.
struct Again {
    target: Target,
    account: Arc<dyn TenantAccount>,
    progress: Progress,
    outcome: Outcome,
}

impl Tried {
    fn outcome(&self) -> (&TargetId, &Outcome) {
        match self {
            Self::Finished((target, outcome)) => (target, outcome),
            Self::Again(again) => (&again.target.id, &again.outcome),
        }
    }
}

impl Run {
    fn new(engine: &Engine, rollout: &str, request: &PlanRequest, plan: Arc<Plan>) -> Self {
        let attempt = Arc::new(Attempt::new(engine, request));
        let rollout = rollout.to_owned();
        Self { engine: engine.clone(), rollout, plan, release: request.release.clone(), attempt }
    }

    /// Brings all targets to their outcomes, wave by wave: first those of a wave that need no change, since what is
    /// found wrong with them holds back what follows, then those that do.
    async fn waves(
        self: &Arc<Self>,
        ready: Vec<Ready>,
        unchanged: Vec<Entrance>,
        brakes: &mut Brakes<'_>,
    ) -> Vec<Finished> {
        let Engine { events, stop, .. } = &self.engine;
        let policies = &self.plan.content.rollout.waves;
        let mut waves: BTreeMap<u32, (Vec<Entrance>, Vec<Ready>)> = BTreeMap::new();
        for (target, account) in unchanged {
            waves.entry(target.wave).or_default().0.push((target, account));
        }
        for ready in ready {
            waves.entry(ready.target.wave).or_default().1.push(ready);
        }
        let (mut finished, mut again) = (Vec::new(), Vec::new());
        while let Some((number, (unchanged, wave))) = waves.pop_first() {
            finished.extend(self.look_at(unchanged, brakes).await);
            if wave.is_empty() {
                continue;
            }
            let policy = policies.get(number as usize);
            if let Some(policy) = policy.filter(|_| self.why_not(brakes).is_none()) {
                events.emit(Event::WaveStarted { wave: policy.name.clone(), targets: wave.len() });
            }
            // What runs already is followed, whatever holds the others back.
            let (mut items, mut held): (Vec<Ready>, Vec<Ready>) = wave.into_iter().partition(|ready| ready.begun);
            let limit = brakes.limit().max(items.len());
            if brakes.held().is_none() {
                items.append(&mut held);
            }
            let watched: Vec<Watched> =
                items.iter().map(|ready| (ready.target.clone(), ready.account.clone())).collect();
            let work = |ready| self.clone().target(ready);
            let judge = |tried: &Tried| {
                let (target, outcome) = tried.outcome();
                brakes.seen(target, outcome)
            };
            let results = window::run(items, limit, stop, work, judge).await;
            for result in results.into_iter().chain(held.into_iter().map(Err)) {
                match result {
                    Ok(Tried::Finished(end)) => finished.push(end),
                    Ok(Tried::Again(one)) => again.push(*one),
                    Err(ready) if ready.begun => {
                        let outcome = Outcome::Detached(still_running("the run was stopped"));
                        let progress = Progress::new(&ready.target.id, State::Planned, events);
                        finished.push((ready.target.id, progress.finish(outcome)));
                    }
                    Err(ready) => {
                        let why = self.why_not(brakes).unwrap_or_else(|| "the rollout ended".to_owned());
                        let outcome = Outcome::Skipped(Failure::because(format!("not started: {why}")));
                        let progress = Progress::new(&ready.target.id, State::Planned, events);
                        finished.push((ready.target.id, progress.finish(outcome)));
                    }
                }
            }
            let is_last = waves.values().all(|(_, ready)| ready.is_empty());
            if self.why_not(brakes).is_none() {
                let bake = policy.filter(|_| !is_last).map_or(Duration::ZERO, |policy| policy.bake);
                if let Some(policy) = policy.filter(|_| !bake.is_zero()) {
                    events.emit(Event::Baking { wave: policy.name.clone(), seconds: bake.as_secs() });
                }
                // Those that failed have been judged already, and need not have their alarms.
                let deployed: BTreeSet<&TargetId> = finished
                    .iter()
                    .filter(|(_, outcome): &&Finished| *outcome == Outcome::Deployed)
                    .map(|(target, _)| target)
                    .collect();
                let watched: Vec<Watched> =
                    watched.into_iter().filter(|(target, _)| deployed.contains(&target.id)).collect();
                self.watch_wave(&watched, bake, brakes).await;
            }
        }
        finished.extend(self.requeue(again, brakes).await);
        finished
    }

    /// Says why nothing more is started, if so.
    fn why_not(&self, brakes: &Brakes<'_>) -> Option<String> {
        self.engine.halted().or(brakes.held()).map(str::to_owned)
    }

    /// Looks at targets that need no change. That changes nothing, so that the brakes count and do not hold.
    async fn look_at(self: &Arc<Self>, unchanged: Vec<Entrance>, brakes: &mut Brakes<'_>) -> Vec<Finished> {
        let look = |(target, account)| self.clone().unchanged(target, account);
        let judge = |(target, outcome): &Finished| {
            brakes.seen(target, outcome);
            Flow::Start
        };
        let skipped = |(target, _): Entrance| {
            let outcome = Outcome::Skipped(Failure::because("not looked at: the run was stopped"));
            self.engine.events.emit(Event::Finished { target: target.id.clone(), outcome: outcome.clone() });
            (target.id, outcome)
        };
        let looked = window::run(unchanged, window::WIDE, &self.engine.stop, look, judge).await;
        looked.into_iter().map(|result| result.unwrap_or_else(skipped)).collect()
    }

    /// Waits after a wave that was over when the rollout was interrupted: how long it had baked is not known.
    async fn bake_again(&self, settled: &[(Target, Outcome)], ready: &[Ready], brakes: &mut Brakes<'_>) {
        let executed = |outcome: &Outcome| {
            matches!(outcome, Outcome::Deployed | Outcome::RolledBack(_) | Outcome::RollbackFailed(_))
        };
        let before = settled.iter().filter(|(_, outcome)| executed(outcome)).map(|(target, _)| target.wave);
        let next = ready.iter().map(|ready| ready.target.wave).min();
        let (Some(last), Some(next)) = (before.max(), next) else { return };
        let wave =
            self.plan.content.rollout.waves.get(last as usize).filter(|wave| next > last && !wave.bake.is_zero());
        if let Some(Wave { name, bake, .. }) = wave {
            self.engine.events.emit(Event::Baking { wave: name.clone(), seconds: bake.as_secs() });
        }
        // What was deployed before is watched too, once at least.
        let mut watched = Vec::new();
        let deployed = settled.iter().filter(|(_, outcome)| *outcome == Outcome::Deployed).map(|(target, _)| target);
        for target in deployed.filter(|target| !target.alarms.is_empty()) {
            match patiently(&self.engine.stop, || self.engine.accounts.enter(target)).await {
                Ok(account) => watched.push((target.clone(), account)),
                Err(fault) => return brakes.alarm_raised(format!("{}: alarms cannot be read: {fault}", target.id)),
            }
        }
        self.watch_wave(&watched, wave.map_or(Duration::ZERO, |wave| wave.bake), brakes).await;
    }

    /// Waits after a wave with an eye on its alarms and on those of the tooling account. One that has gone off stops
    /// the rollout.
    async fn watch_wave(&self, wave: &[Watched], bake: Duration, brakes: &mut Brakes<'_>) {
        if let Some(why) = self.engine.watch(&self.plan.content.rollout.alarms, wave, bake).await {
            self.engine.events.notice(format!("the rollout stops: {why}"));
            brakes.alarm_raised(why);
        }
    }

    /// Tries what has failed once more.
    async fn requeue(self: &Arc<Self>, again: Vec<Again>, brakes: &mut Brakes<'_>) -> Vec<Finished> {
        if again.is_empty() {
            return Vec::new();
        }
        if self.why_not(brakes).is_some() {
            let end = |one: Again| (one.target.id, one.progress.finish(one.outcome));
            return again.into_iter().map(end).collect();
        }
        self.engine.events.notice(format!("trying {} that failed once more", again.len()));
        let work = |one| self.clone().once_more(one);
        let limit = brakes.limit();
        let judge = |(_, outcome): &Finished| {
            if matches!(outcome, Outcome::Deployed) {
                brakes.mended();
            }
            Flow::AtMost(brakes.limit())
        };
        let end = |one: Again| (one.target.id, one.progress.finish(one.outcome));
        let results = window::run(again, limit, &self.engine.stop, work, judge).await;
        results.into_iter().map(|result| result.unwrap_or_else(end)).collect()
    }

    /// Plans a target that has failed anew, and executes that where it is what was approved.
    async fn once_more(self: Arc<Self>, again: Again) -> Finished {
        let Again { target, account, mut progress, outcome } = again;
        let entered = Entered { target: target.clone(), account: Ok(account.clone()) };
        let outcome = match self.attempt.clone().again(entered, None).await.result {
            Ok(Planned::Ready(ready, changes)) if self.is_as_planned(&ready, &changes) => {
                self.second_try(&ready, &mut progress, outcome).await
            }
            // The stack is as it should be: what had failed was its check.
            Ok(Planned::Unchanged(account, version)) => {
                let Engine { events, stop, .. } = &self.engine;
                match verify(account.as_ref(), &target, &version.stack_id, events, stop).await {
                    Ok(()) => {
                        self.remember(&target.id).await;
                        Outcome::Deployed
                    }
                    Err(outcome) => outcome,
                }
            }
            Ok(Planned::Ready(ready, _)) => {
                self.engine.discard(vec![*ready]).await;
                self.engine.events.notice(format!("{}: another try would do something else; it is left", target.id));
                outcome
            }
            Err(_) => outcome,
        };
        (target.id.clone(), progress.finish(outcome))
    }

    /// Executes what has failed once more, after that is written down: whoever resumes has to know of it. Where nothing
    /// was executed after all, the first outcome stands.
    async fn second_try(&self, ready: &Ready, progress: &mut Progress, first: Outcome) -> Outcome {
        let (stack_id, change_set) = (ready.stack_id.clone(), ready.change_set.clone());
        let prepared = Prepared { target: ready.target.id.clone(), stack_id, change_set };
        if let Err(fault) = self.engine.prepare_again(&self.plan, &self.rollout, &prepared).await {
            self.engine.events.notice(format!("{}: not tried once more: {fault}", ready.target.id));
            return first;
        }
        self.engine.events.emit(Event::Prepared { prepared });
        progress.take(Step::Execute);
        let tried = self.execute(ready).await;
        match self.verified(ready, tried, progress).await {
            Outcome::Skipped(_) => first,
            Outcome::Deployed => {
                self.remember(&ready.target.id).await;
                Outcome::Deployed
            }
            other => other,
        }
    }

    /// Tells whether a target's change set says what the plan says of the target.
    fn is_as_planned(&self, ready: &Ready, changes: &[Change]) -> bool {
        let now = self.attempt.content(&ready.target, Intent::of(ready.creates, changes.to_vec()));
        self.plan.content.target(&ready.target.id) == Some(&now)
    }

    /// Brings one target to its outcome.
    async fn target(self: Arc<Self>, ready: Ready) -> Tried {
        let mut progress = Progress::new(&ready.target.id, State::Planned, &self.engine.events);
        progress.take(Step::Execute);
        let tried = self.execute(&ready).await;
        let outcome = self.verified(&ready, tried, &mut progress).await;
        let Ready { target, account, last_try, .. } = ready;
        if outcome == Outcome::Deployed {
            self.remember(&target.id).await;
        }
        let may_mend = matches!(outcome, Outcome::RolledBack(_) | Outcome::Failed(_));
        if may_mend && !last_try && self.plan.content.rollout.requeue && self.engine.halted().is_none() {
            let why = outcome.failure().map(ToString::to_string).unwrap_or_default();
            self.engine.events.notice(format!(
                "{}: {}, and tried once more at the end: {why}",
                target.id,
                outcome.name()
            ));
            progress.take(Step::Again);
            return Tried::Again(Box::new(Again { target, account, progress, outcome }));
        }
        Tried::Finished((target.id.clone(), progress.finish(outcome)))
    }

    /// Protects a stack that is deployed, if that is wanted, and runs its target's checks.
    async fn verified(&self, ready: &Ready, tried: Result<(), Outcome>, progress: &mut Progress) -> Outcome {
        if let Err(outcome) = tried {
            return outcome;
        }
        progress.take(Step::Verify);
        let Ready { target, account, stack_id, protected, creates, begun, .. } = ready;
        let Engine { events, stop, .. } = &self.engine;
        let options = &self.plan.content.options;
        if let Some(policy) = options.stack_policy.as_ref().filter(|_| *creates || *begun) {
            let policy = policy.to_string();
            if let Err(fault) = patiently(stop, || account.set_policy(stack_id, &policy)).await {
                return undone("the stack's policy could not be set", &fault);
            }
        }
        if options.termination_protection
            && !protected
            && let Err(fault) = patiently(stop, || account.protect(stack_id)).await
        {
            return undone("the stack could not be protected against deletion", &fault);
        }
        let checked = verify(account.as_ref(), target, stack_id, events, stop).await;
        checked.err().unwrap_or(Outcome::Deployed)
    }

    /// Looks at a target whose stack needs no change. If the ledger has it on another release, this is the first
    /// time that it is known to be on this one, and its checks have to hold as after a deployment.
    async fn unchanged(self: Arc<Self>, target: Target, account: Arc<dyn TenantAccount>) -> Finished {
        let Engine { events, stop, store, .. } = &self.engine;
        let key = ledger::key(&self.release.application, &self.plan.content.stage, &target.id);
        let known = records::read::<LedgerEntry>(store.as_ref(), &key).await.ok().flatten();
        let mut outcome = Outcome::Unchanged;
        if known.is_none_or(|(entry, _)| entry.release.as_ref() != Some(&self.release.id)) {
            match verify(account.as_ref(), &target, &target.stack, events, stop).await {
                Ok(()) => self.remember(&target.id).await,
                Err(other) => outcome = other,
            }
        }
        events.emit(Event::Finished { target: target.id.clone(), outcome: outcome.clone() });
        (target.id, outcome)
    }

    /// Writes into the ledger that the target is on this release.
    async fn remember(&self, target: &TargetId) {
        let Release { application, id, .. } = &self.release;
        let Plan { content, digest, .. } = self.plan.as_ref();
        self.engine.remember(application, &content.stage, target, Some(id), Some(*digest)).await;
    }

    /// Executes a change set and follows its stack until it is deployed; any other end is an outcome.
    async fn execute(&self, ready: &Ready) -> Result<(), Outcome> {
        let Ready { target, account, stack_id, change_set, .. } = ready;
        let account = account.as_ref();
        let stop = &self.engine.stop;
        let not_started = |fault: Fault| Outcome::Failed(Failure::because(format!("nothing was executed: {fault}")));
        // What fails in passing says nothing about the target: `resume` may start it.
        let unstarted = |fault: &Fault| Outcome::Skipped(Failure::because(format!("not started: {fault}")));
        let token = token(self.plan.digest, stack_id, change_set);
        let until = Instant::now() + self.plan.content.rollout.deadline;
        if ready.begun {
            let operation = Operation { stack_id, token: &token, since: ready.since, until };
            return self.followed(account, target, operation).await;
        }
        if let Some(policy) = self.plan.content.options.stack_policy.as_ref().filter(|_| !ready.creates) {
            // It has to hold for this update already.
            let policy = policy.to_string();
            let set = patiently(stop, || account.set_policy(stack_id, &policy)).await;
            set.map_err(|fault| if fault.passes() { unstarted(&fault) } else { not_started(fault) })?;
        }
        let seen = patiently(stop, || account.newest_event(stack_id)).await;
        let since = seen.map_err(|fault| if fault.passes() { unstarted(&fault) } else { not_started(fault) })?;
        let operation = Operation { stack_id, token: &token, since, until };
        // Reading took time: the run may have been stopped since, or its lock be somebody else's.
        if let Some(why) = self.engine.halted() {
            return Err(Outcome::Skipped(Failure::because(format!("not started: {why}"))));
        }
        let mut patience = Patience::new();
        while let Err(fault) = account.execute_change_set(&target.stack, change_set, &token).await {
            // Whatever the answer was: an earlier one may have been lost after CloudFormation began.
            match has_begun(account, &operation, stop).await {
                Begun::Yes => break,
                Begun::No if self.engine.halted().is_some() => return Err(unstarted(&fault)),
                Begun::No if patience.bears(&fault) => patience.pause().await,
                Begun::No if fault.passes() => return Err(unstarted(&fault)),
                Begun::No => return Err(not_started(fault)),
                Begun::Unknown(why) => {
                    let why = format!("whether the execution began is not known: {fault}; {why}");
                    return Err(Outcome::Detached(
                        Failure::because(why).hint("see where it is with `tenantry status`"),
                    ));
                }
            }
        }
        self.followed(account, target, operation).await
    }

    /// Follows a stack until it is deployed; any other end is an outcome.
    async fn followed(
        &self,
        account: &dyn TenantAccount,
        target: &Target,
        operation: Operation<'_>,
    ) -> Result<(), Outcome> {
        let Engine { events, stop, .. } = &self.engine;
        match follow(account, &target.id, operation, events, stop).await {
            Ending::Settled(Settled::Done, _) => Ok(()),
            Ending::Settled(Settled::RolledBack, failure) => Err(Outcome::RolledBack(failure)),
            Ending::Settled(Settled::RollbackFailed, failure) => Err(Outcome::RollbackFailed(failure)),
            Ending::Settled(_, failure) => Err(Outcome::Failed(failure)),
            Ending::Detached(failure) => Err(Outcome::Detached(failure)),
        }
    }
}

/// Returns the outcome of a target whose stack is deployed, while something beside it could not be done.
fn undone(what: &str, fault: &Fault) -> Outcome {
    let failure = Failure::because(format!("{what}: {fault}")).hint("the stack itself is deployed");
    if fault.passes() { Outcome::Detached(failure) } else { Outcome::Failed(failure) }
}

/// Returns the token of a plan's operation on a stack: the same plan and the same change set make the same token, so
/// that a repeated call is the same request, on whatever machine (safety rule 3).
pub(super) fn token(plan: Digest, stack_id: &str, change_set: &str) -> String {
    format!("tenantry-{}", Digest::of(format!("{plan} {stack_id} {change_set}")))
}

/// Whether an operation has begun.
pub(super) enum Begun {
    /// It has: the stack has an event of it.
    Yes,
    /// It has not: the stack is at rest, without an event of it.
    No,
    /// Nobody can say; the text says why.
    Unknown(String),
}

/// Tells whether an operation has begun, by what the stack itself says: a change set that was executed is no longer
/// found by its name. Looks some times, since events take a moment.
pub(super) async fn has_begun(account: &dyn TenantAccount, operation: &Operation<'_>, stop: &Stop) -> Begun {
    let unread = |fault: Fault| Begun::Unknown(format!("then {fault}"));
    let mut pace = Pace::new();
    for _ in 0..LOOKS {
        pace.pause().await;
        let events = patiently(stop, || account.events(operation.stack_id, operation.since)).await;
        match events {
            Ok(events) if events.iter().any(|event| event.token.as_deref() == Some(operation.token)) => {
                return Begun::Yes;
            }
            Ok(_) => {}
            Err(fault) => return unread(fault),
        }
    }
    let stack = match patiently(stop, || account.stack(operation.stack_id)).await {
        Ok(stack) => stack,
        Err(fault) => return unread(fault),
    };
    let is_busy =
        |stack: &Stack| stack.status != StackStatus::ReviewInProgress && stack.status.settled() == Settled::NotYet;
    match stack {
        Some(stack) if is_busy(&stack) => Begun::Unknown(format!("the stack is {}, by another request", stack.status)),
        _ => Begun::No,
    }
}
