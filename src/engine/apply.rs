//! Executing exactly a plan, and following every stack to its end.

use std::sync::Arc;

use super::follow::{Ending, Operation, Pace, follow};
use super::patience::patiently;
use super::plan::{Planning, Ready};
use super::verify::verify;
use super::window::{self, Flow};
use super::{Engine, Lease, Progress, Stop, ledger};
use crate::domain::lifecycle::{State, Step};
use crate::domain::stack::Settled;
use crate::domain::{Digest, Failure, Fault, Outcome, Release, Stack, StackStatus, Tally, Target, TargetId};
use crate::event::{Event, Phase};
use crate::plan::ChangeSetRef;
use crate::ports::TenantAccount;

/// How often an execution is asked for, where the answers fail in passing and nothing has begun.
const ATTEMPTS: u32 = 3;
/// How many looks a stack has to show that an operation has begun: about ten seconds.
const LOOKS: u32 = 8;

/// A target with its outcome.
pub type Finished = (TargetId, Outcome);

impl Engine {
    /// Executes a planning's change sets, never more than `max-concurrency` at a time, and returns how every
    /// target ended, those that were settled by the plan included.
    ///
    /// After more failures than tolerated nothing new is started; what runs is followed to its end.
    pub async fn apply(&self, planning: Planning, release: &Release) -> Vec<Finished> {
        let Planning { plan, ready, unchanged, settled } = planning;
        let total = plan.content.targets.len();
        let tolerated = plan.content.tolerated();
        let stage = plan.content.stage.clone();
        if !ready.is_empty() {
            self.events.emit(Event::PhaseStarted { phase: Phase::Apply, stage: stage.clone(), targets: ready.len() });
        }

        let mut failures = settled.iter().filter(|(_, outcome)| outcome.is_failure()).count();
        let judge = |(_, outcome): &Finished| {
            failures += usize::from(outcome.is_failure());
            if failures > tolerated { Flow::Hold } else { Flow::Start }
        };
        let run =
            Arc::new(Run { engine: self.clone(), stage: stage.clone(), digest: plan.digest, release: release.clone() });
        let limit = plan.content.rollout.max_concurrency.of(total).max(1);
        let results = window::run(ready, limit, &self.stop, |ready| run.clone().target(ready), judge).await;

        let why = if self.stop.is_requested() { "the run was stopped" } else { "too many other targets failed" };
        let not_started = |ready: Ready| {
            let outcome = Outcome::Skipped(Failure::because(format!("not started: {why}")));
            let progress = Progress::new(&ready.target.id, State::Planned, &self.events);
            (ready.target.id, progress.finish(outcome))
        };
        let mut finished: Vec<Finished> =
            results.into_iter().map(|result| result.unwrap_or_else(not_started)).collect();
        let look = |(target, account)| run.clone().unchanged(target, account);
        let skipped = |(target, _): (Target, _)| (target.id, Outcome::Skipped(Failure::because("the run was stopped")));
        let looked = window::run(unchanged, limit, &self.stop, look, |_| Flow::Start).await;
        finished.extend(looked.into_iter().map(|result| result.unwrap_or_else(skipped)));
        finished.extend(settled.into_iter().map(|(target, outcome)| (target.id, outcome)));
        let tally = Tally::of(finished.iter().map(|(_, outcome)| outcome));
        self.events.emit(Event::PhaseFinished { phase: Phase::Apply, stage, tally });
        finished
    }
}

/// What all targets of a rollout share.
struct Run {
    engine: Engine,
    stage: String,
    digest: Digest,
    release: Release,
}

impl Run {
    /// Brings one target to its outcome.
    async fn target(self: Arc<Self>, ready: Ready) -> Finished {
        let Ready { target, account, change_set, .. } = ready;
        let Engine { events, stop, .. } = &self.engine;
        let mut progress = Progress::new(&target.id, State::Planned, events);
        progress.take(Step::Execute);
        let outcome = match self.execute(account.as_ref(), &target, &change_set).await {
            Ok(()) => {
                progress.take(Step::Verify);
                let checked = verify(account.as_ref(), &target, &change_set.stack_id, events, stop).await;
                checked.map_or_else(Outcome::Failed, |()| Outcome::Deployed)
            }
            Err(outcome) => outcome,
        };
        if outcome == Outcome::Deployed {
            self.remember(&target.id).await;
        }
        (target.id.clone(), progress.finish(outcome))
    }

    /// Looks at a target whose stack needs no change. If the ledger has it on another release, this is the first
    /// time that it is known to be on this one, and its checks have to hold as after a deployment.
    async fn unchanged(self: Arc<Self>, target: Target, account: Arc<dyn TenantAccount>) -> Finished {
        let Engine { events, stop, store, .. } = &self.engine;
        let key = ledger::key(&self.release.application, &self.stage, &target.id);
        let known = ledger::read(store.as_ref(), &key).await.ok().flatten();
        let mut outcome = Outcome::Unchanged;
        if known.is_none_or(|(entry, _)| entry.release.as_ref() != Some(&self.release.id)) {
            match verify(account.as_ref(), &target, &target.stack, events, stop).await {
                Ok(()) => self.remember(&target.id).await,
                Err(failure) => outcome = Outcome::Failed(failure),
            }
        }
        events.emit(Event::Finished { target: target.id.clone(), outcome: outcome.clone() });
        (target.id, outcome)
    }

    /// Writes into the ledger that the target is on this release.
    async fn remember(&self, target: &TargetId) {
        let Release { application, id, .. } = &self.release;
        self.engine.remember(application, &self.stage, target, Some(id), Some(self.digest)).await;
    }

    /// Executes a change set and follows its stack until it is deployed; any other end is an outcome.
    async fn execute(
        &self,
        account: &dyn TenantAccount,
        target: &Target,
        change_set: &ChangeSetRef,
    ) -> Result<(), Outcome> {
        let Engine { events, stop, .. } = &self.engine;
        let not_started = |fault: Fault| Outcome::Failed(Failure::because(format!("nothing was executed: {fault}")));
        let stack_id = &change_set.stack_id;
        let unread = |fault: Fault| match not_started(fault) {
            Outcome::Failed(failure) if stop.is_requested() => Outcome::Skipped(failure),
            outcome => outcome,
        };
        let seen = patiently(stop, || account.newest_event(stack_id)).await.map_err(unread)?;
        // The same plan and the same change set make the same token, so that a repeated call is the same request.
        let token = Digest::of(format!("{} {stack_id} {}", self.digest, change_set.name));
        let token = format!("tenantry-{token}");
        let operation = Operation { stack_id, token: &token, after: seen };
        // Reading took time: the run may have been stopped since, or its lock be somebody else's.
        if stop.is_requested() || self.engine.lease.as_ref().is_some_and(Lease::is_over) {
            return Err(Outcome::Skipped(Failure::because("not started: the run was stopped, or its lock is lost")));
        }
        let mut attempt = 1;
        while let Err(fault) = account.execute_change_set(&target.stack, &change_set.name, &token).await {
            // Whatever the answer was: an earlier one may have been lost after CloudFormation began.
            match has_begun(account, &operation, stop).await {
                Begun::Yes => break,
                Begun::No if fault.passes() && attempt < ATTEMPTS && !stop.is_requested() => attempt += 1,
                Begun::No => return Err(not_started(fault)),
                Begun::Unknown(why) => {
                    let why = format!("whether the execution began is not known: {fault}; {why}");
                    return Err(Outcome::Detached(
                        Failure::because(why).hint("see where it is with `tenantry status`"),
                    ));
                }
            }
        }
        match follow(account, &change_set.target, operation, events, stop).await {
            Ending::Settled(Settled::Done, _) => Ok(()),
            Ending::Settled(Settled::RolledBack, failure) => Err(Outcome::RolledBack(failure)),
            Ending::Settled(Settled::RollbackFailed, failure) => Err(Outcome::RollbackFailed(failure)),
            Ending::Settled(_, failure) => Err(Outcome::Failed(failure)),
            Ending::Detached(failure) => Err(Outcome::Detached(failure)),
        }
    }
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
        let events = patiently(stop, || account.events(operation.stack_id, operation.after.as_deref())).await;
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
