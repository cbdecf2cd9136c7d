//! Executing exactly a plan, and following every stack to its end.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::access::Entered;
use super::follow::{Ending, follow};
use super::ledger;
use super::plan::{Planning, Ready};
use super::window::{self, Flow};
use super::{Engine, Progress};
use crate::domain::lifecycle::{State, Step};
use crate::domain::stack::Settled;
use crate::domain::{
    ChangeSetStatus, Digest, Failure, Fault, Outcome, Release, Stack, StackStatus, Tally, Target, TargetId,
};
use crate::event::{Event, Phase};
use crate::plan::{ChangeSetRef, Content, Intent, Plan, Secrets, TargetContent};
use crate::ports::TenantAccount;

/// A target with its outcome.
pub type Finished = (TargetId, Outcome);

impl Engine {
    /// Describes every change set of a plan anew, computes the digest from what CloudFormation says now, and
    /// returns what to execute; or, where anything differs, what it is (safety rule 2).
    pub async fn recheck(
        &self,
        plan: &Plan,
        release: &Release,
        entered: Vec<Entered>,
        secrets: &Secrets,
    ) -> Result<Planning, Vec<String>> {
        let change_sets: BTreeMap<&TargetId, &ChangeSetRef> =
            plan.change_sets.iter().map(|change_set| (&change_set.target, change_set)).collect();
        let planned: BTreeMap<&TargetId, &Intent> =
            plan.content.targets.iter().map(|target| (&target.target, &target.intent)).collect();
        let work: Vec<(Entered, Option<ChangeSetRef>)> = entered
            .into_iter()
            .map(|entered| {
                let change_set = change_sets.get(&entered.target.id).copied().cloned();
                (entered, change_set)
            })
            .collect();
        let described =
            window::run(work, 128, &self.stop, |(entered, change_set)| describe(entered, change_set), |_| Flow::Start)
                .await;

        let (mut contents, mut ready, mut settled, mut problems) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for result in described {
            match result {
                Err((entered, _)) => problems.push(format!("target {}: the run was stopped", entered.target.id)),
                Ok(Err(problem)) => problems.push(problem),
                Ok(Ok((target, Some((found, intent))))) => {
                    contents.push(TargetContent::new(&target, intent, secrets));
                    ready.push(found);
                }
                Ok(Ok((target, None))) => {
                    let intent = planned.get(&target.id).copied().cloned().unwrap_or(Intent::Excluded);
                    contents.push(TargetContent::new(&target, intent.clone(), secrets));
                    let outcome = match intent {
                        Intent::Unchanged => Outcome::Unchanged,
                        _ => Outcome::Skipped(Failure::because("left out of the plan")),
                    };
                    settled.push((target, outcome));
                }
            }
        }
        let content = Content::new(&plan.content.stage, release, plan.content.rollout, contents);
        if problems.is_empty() {
            problems = plan.content.differences(&content);
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let digest = content.digest();
        if digest != plan.digest {
            return Err(vec![format!("the plan's digest is {} and not {}", digest, plan.digest)]);
        }
        Ok(Planning { plan: Plan { digest, content, ..plan.clone() }, ready, settled })
    }

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

        let mut finished: Vec<Finished> = results
            .into_iter()
            .map(|result| {
                result.unwrap_or_else(|ready| {
                    let why =
                        if self.stop.is_requested() { "the run was stopped" } else { "too many other targets failed" };
                    let outcome = Outcome::Skipped(Failure::because(format!("not started: {why}")));
                    (
                        ready.target.id.clone(),
                        Progress::new(&ready.target.id, State::Planned, &self.events).finish(outcome),
                    )
                })
            })
            .collect();
        for (target, outcome) in settled {
            if outcome == Outcome::Unchanged {
                run.remember(&target.id).await;
            }
            finished.push((target.id, outcome));
        }
        let tally = Tally::of(finished.iter().map(|(_, outcome)| outcome));
        self.events.emit(Event::PhaseFinished { phase: Phase::Apply, stage, tally });
        finished
    }
}

/// Reads a target's change set as it is now.
async fn describe(
    entered: Entered,
    change_set: Option<ChangeSetRef>,
) -> Result<(Target, Option<(Ready, Intent)>), String> {
    let Entered { target, account } = entered;
    let Some(change_set) = change_set else { return Ok((target, None)) };
    let id = target.id.clone();
    let account = account.map_err(|failure| format!("target {id}: {failure}"))?;
    let found =
        account.change_set(&target.stack, &change_set.name).await.map_err(|fault| format!("target {id}: {fault}"))?;
    let found = found.ok_or_else(|| format!("target {id}: its change set {} is gone", change_set.name))?;
    let stack = account.stack(&change_set.stack_id).await.map_err(|fault| format!("target {id}: {fault}"))?;
    match found.status {
        ChangeSetStatus::Ready => {
            let creates = stack.is_some_and(|stack: Stack| stack.status == StackStatus::ReviewInProgress);
            let intent = Intent::of(creates, found.changes);
            let ready = Ready { target: target.clone(), account, change_set, creates };
            Ok((target, Some((ready, intent))))
        }
        ChangeSetStatus::Spent(status) => Err(format!("target {id}: its change set is {status}")),
        other => Err(format!("target {id}: its change set is not ready but {other:?}")),
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
        let mut progress = Progress::new(&target.id, State::Planned, &self.engine.events);
        progress.take(Step::Execute);
        let outcome = match self.execute(account.as_ref(), &target, &change_set).await {
            Ok(()) => {
                progress.take(Step::Verify);
                match super::verify::verify(
                    account.as_ref(),
                    &target,
                    &change_set.stack_id,
                    &self.engine.events,
                    &self.engine.stop,
                )
                .await
                {
                    Ok(()) => Outcome::Deployed,
                    Err(failure) => Outcome::Failed(failure),
                }
            }
            Err(outcome) => outcome,
        };
        if outcome == Outcome::Deployed {
            self.remember(&target.id).await;
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
        let not_started = |fault: Fault| Outcome::Failed(Failure::because(format!("nothing was executed: {fault}")));
        let seen = account.newest_event(&change_set.stack_id).await.map_err(not_started)?;
        // The same plan and the same change set make the same token, so that a repeated call is the same request.
        let token =
            format!("tenantry-{}", Digest::of(format!("{} {} {}", self.digest, change_set.stack_id, change_set.name)));
        if let Err(fault) = account.execute_change_set(&target.stack, &change_set.name, &token).await {
            if !fault.passes() {
                return Err(not_started(fault));
            }
            // The answer may have been lost after CloudFormation began. Whether it did, the change set tells.
            if !self.has_begun(account, target, change_set).await {
                return Err(not_started(fault));
            }
        }
        let Engine { events, stop, .. } = &self.engine;
        match follow(account, &change_set.target, &change_set.stack_id, seen, events, stop).await {
            Ending::Settled(Settled::Done, ..) => Ok(()),
            Ending::Settled(Settled::RolledBack, failure) => Err(Outcome::RolledBack(failure)),
            Ending::Settled(Settled::RollbackFailed, failure) => Err(Outcome::RollbackFailed(failure)),
            Ending::Settled(_, failure) => Err(Outcome::Failed(failure)),
            Ending::Detached(failure) => Err(Outcome::Detached(failure)),
        }
    }

    async fn has_begun(&self, account: &dyn TenantAccount, target: &Target, change_set: &ChangeSetRef) -> bool {
        matches!(
            account.change_set(&target.stack, &change_set.name).await,
            Ok(Some(found)) if matches!(&found.status, ChangeSetStatus::Spent(status) if status.starts_with("EXECUTE_"))
        )
    }

    /// Writes into the ledger that the target is on this release.
    async fn remember(&self, target: &TargetId) {
        let entry = ledger::Entry {
            release: Some(self.release.id.clone()),
            since: self.engine.events.now(),
            plan: Some(self.digest),
        };
        self.engine.remember(&self.release.application, &self.stage, target, &entry).await;
    }
}
