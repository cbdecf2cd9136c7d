//! Executing exactly a plan, and following every stack to its end.

use std::sync::Arc;
use std::time::Duration;

use super::follow::{Ending, follow};
use super::patience::patiently;
use super::plan::{Planning, Ready};
use super::verify::verify;
use super::window::{self, Flow};
use super::{Engine, Progress, Stop, ledger};
use crate::domain::lifecycle::{State, Step};
use crate::domain::stack::Settled;
use crate::domain::{Digest, Failure, Fault, Outcome, Release, Stack, StackStatus, Tally, Target, TargetId};
use crate::event::{Event, Phase};
use crate::plan::ChangeSetRef;
use crate::ports::TenantAccount;

/// How often an execution is asked for, where the answers fail in passing and nothing has begun.
const ATTEMPTS: u32 = 3;
/// How long a stack may take to show that an operation has begun.
const SETTLE: Duration = Duration::from_secs(2);

/// A target with its outcome.
pub type Finished = (TargetId, Outcome);

impl Engine {
    /// Executes a planning's change sets, never more than `max-concurrency` at a time, and returns how every
    /// target ended, those that were settled by the plan included.
    ///
    /// After more failures than tolerated nothing new is started; what runs is followed to its end.
    pub async fn apply(&self, planning: Planning, release: &Release) -> Vec<Finished> {
        let Planning { plan, ready, settled } = planning;
        let total = plan.content.targets.len();
        let tolerated = plan.content.rollout.failure_tolerance.of(total);
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
            let entry =
                ledger::Entry { release: Some(self.release.id.clone()), since: events.now(), plan: Some(self.digest) };
            self.engine.remember(&self.release.application, &self.stage, &target.id, &entry).await;
        }
        (target.id.clone(), progress.finish(outcome))
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
        let seen = patiently(stop, || account.newest_event(stack_id)).await.map_err(not_started)?;
        // The same plan and the same change set make the same token, so that a repeated call is the same request.
        let token = Digest::of(format!("{} {stack_id} {}", self.digest, change_set.name));
        let token = format!("tenantry-{token}");
        let mut attempt = 1;
        while let Err(fault) = account.execute_change_set(&target.stack, &change_set.name, &token).await {
            // Whatever the answer was: an earlier one may have been lost after CloudFormation began.
            match has_begun(account, stack_id, seen.as_deref(), stop).await {
                Ok(true) => break,
                Ok(false) if fault.passes() && attempt < ATTEMPTS && !stop.is_requested() => attempt += 1,
                Ok(false) => return Err(not_started(fault)),
                Err(unread) => {
                    let why = format!("whether the execution began is not known: {fault}; then {unread}");
                    return Err(Outcome::Detached(
                        Failure::because(why).hint("see where it is with `tenantry status`"),
                    ));
                }
            }
        }
        match follow(account, &change_set.target, stack_id, seen, events, stop).await {
            Ending::Settled(Settled::Done, _) => Ok(()),
            Ending::Settled(Settled::RolledBack, failure) => Err(Outcome::RolledBack(failure)),
            Ending::Settled(Settled::RollbackFailed, failure) => Err(Outcome::RollbackFailed(failure)),
            Ending::Settled(_, failure) => Err(Outcome::Failed(failure)),
            Ending::Detached(failure) => Err(Outcome::Detached(failure)),
        }
    }
}

/// Tells whether an operation on a stack began after the event `seen`, by what the stack itself says: a change set
/// that was executed is no longer found by its name.
pub(super) async fn has_begun(
    account: &dyn TenantAccount,
    stack_id: &str,
    seen: Option<&str>,
    stop: &Stop,
) -> Result<bool, Fault> {
    tokio::time::sleep(SETTLE).await;
    if !patiently(stop, || account.events(stack_id, seen)).await?.is_empty() {
        return Ok(true);
    }
    let stack = patiently(stop, || account.stack(stack_id)).await?;
    let is_busy =
        |stack: &Stack| stack.status != StackStatus::ReviewInProgress && stack.status.settled() == Settled::NotYet;
    Ok(stack.as_ref().is_some_and(is_busy))
}
