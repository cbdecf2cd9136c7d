//! Bringing one target to its outcome: its change set is executed, its stack followed and verified.

use std::sync::Arc;

use tokio::time::Instant;

use super::access::Entered;
use super::apply::{Finished, Run};
use super::begun::{Begun, has_begun, token};
use super::follow::{Ending, Operation, follow};
use super::patience::{Patience, patiently};
use super::plan::{Planned, Ready};
use super::verify::verify;
use super::{Engine, LedgerEntry, Progress, ledger, records};
use crate::domain::lifecycle::{State, Step};
use crate::domain::stack::Settled;
use crate::domain::{Change, Failure, Fault, Outcome, Release, Target, TargetId};
use crate::event::{Event, Prepared};
use crate::plan::{Intent, Plan};
use crate::ports::TenantAccount;
/// How far a target has come.
pub(super) enum Tried {
    /// It has its outcome.
    Finished(Finished),
    /// It has failed, and is tried once more at the end.
    Again(Box<Again>),
}

/// A target that is tried once more.
pub(super) struct Again {
    pub(super) target: Target,
    account: Arc<dyn TenantAccount>,
    pub(super) progress: Progress,
    pub(super) outcome: Outcome,
}

impl Tried {
    /// Returns the target with the outcome that it has so far.
    pub(super) fn outcome(&self) -> (&TargetId, &Outcome) {
        match self {
            Self::Finished((target, outcome)) => (target, outcome),
            Self::Again(again) => (&again.target.id, &again.outcome),
        }
    }
}

impl Run {
    /// Plans a target that has failed anew, and executes that where it is what was approved.
    pub(super) async fn once_more(self: Arc<Self>, again: Again) -> Finished {
        let Again { target, account, mut progress, outcome } = again;
        if self.engine.held_by_shards().await.is_some() {
            return (target.id, progress.finish(outcome));
        }
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
                        self.remember(&target.id, false).await;
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
            Err(_) if self.engine.stop.is_requested() => outcome,
            Err(why) => {
                let why = why.failure().map(ToString::to_string).unwrap_or_default();
                self.engine.events.notice(format!("{}: not tried once more: {why}", target.id));
                outcome
            }
        };
        self.engine.tell_shards(&target.id, &outcome).await;
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
                self.remember(&ready.target.id, ready.creates).await;
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
    pub(super) async fn target(self: Arc<Self>, ready: Ready) -> Tried {
        let mut progress = Progress::new(&ready.target.id, State::Planned, &self.engine.events);
        progress.take(Step::Execute);
        let tried = self.execute(&ready).await;
        let outcome = self.verified(&ready, tried, &mut progress).await;
        let Ready { target, account, last_try, creates, .. } = ready;
        if outcome == Outcome::Deployed {
            self.remember(&target.id, creates).await;
        }
        let may_mend = matches!(outcome, Outcome::RolledBack(_) | Outcome::Failed(_));
        if may_mend && !last_try && self.plan.content.rollout.requeue && self.engine.halted().await.is_none() {
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
            && let Err(fault) = patiently(stop, || account.protect(stack_id, true)).await
        {
            return undone("the stack could not be protected against deletion", &fault);
        }
        let checked = verify(account.as_ref(), target, stack_id, events, stop).await;
        checked.err().unwrap_or(Outcome::Deployed)
    }

    /// Looks at a target whose stack needs no change. If the ledger has it on another release, this is the first
    /// time that it is known to be on this one, and its checks have to hold as after a deployment.
    pub(super) async fn unchanged(self: Arc<Self>, target: Target, account: Arc<dyn TenantAccount>) -> Finished {
        let Engine { events, stop, store, .. } = &self.engine;
        let key = ledger::key(&self.release.application, &self.plan.content.stage, &target.id);
        let known = records::read::<LedgerEntry>(store.as_ref(), &key).await.ok().flatten();
        let mut outcome = Outcome::Unchanged;
        if known.is_none_or(|(entry, _)| entry.release.as_ref() != Some(&self.release.id)) {
            match verify(account.as_ref(), &target, &target.stack, events, stop).await {
                Ok(()) => self.remember(&target.id, false).await,
                Err(other) => outcome = other,
            }
        }
        events.emit(Event::Finished { target: target.id.clone(), outcome: outcome.clone() });
        self.engine.tell_shards(&target.id, &outcome).await;
        (target.id, outcome)
    }

    /// Writes into the ledger that the target is on this release.
    async fn remember(&self, target: &TargetId, is_created: bool) {
        let Release { application, id, .. } = &self.release;
        let Plan { content, digest, .. } = self.plan.as_ref();
        self.engine.remember(application, &content.stage, target, Some(id), Some(*digest), is_created).await;
    }

    /// Executes a change set and follows its stack until it is deployed; any other end is an outcome.
    async fn execute(&self, ready: &Ready) -> Result<(), Outcome> {
        let Ready { target, account, stack_id, change_set, since, .. } = ready;
        let account = account.as_ref();
        let stop = &self.engine.stop;
        let not_started = |fault: Fault| Outcome::Failed(Failure::because(format!("nothing was executed: {fault}")));
        // What fails in passing says nothing about the target: `resume` may start it.
        let unstarted = |fault: &Fault| Outcome::Skipped(Failure::because(format!("not started: {fault}")));
        let token = token(self.plan.digest, stack_id, change_set);
        let until = Instant::now() + self.plan.content.rollout.deadline;
        // When an operation that is found again has begun is not known.
        let usual = if ready.creates { &self.creating } else { &self.updating };
        let usual = (!ready.begun).then_some(usual);
        let operation = Operation { stack_id, token: &token, since: *since, until, usual };
        if ready.begun {
            return self.followed(account, target, operation).await;
        }
        if let Some(policy) = self.plan.content.options.stack_policy.as_ref().filter(|_| !ready.creates) {
            // It has to hold for this update already.
            let policy = policy.to_string();
            let set = patiently(stop, || account.set_policy(stack_id, &policy)).await;
            set.map_err(|fault| if fault.passes() { unstarted(&fault) } else { not_started(fault) })?;
        }
        // A target may have waited for longer than its session lasts, and what begins an operation is a bad call to find that
        // out by: whether it was taken is known after many looks.
        let renewed = patiently(stop, || account.renew()).await;
        renewed.map_err(|fault| if fault.passes() { unstarted(&fault) } else { not_started(fault) })?;
        // That took time: the run may have been stopped since, or its lock be somebody else's.
        if let Some(why) = self.engine.halted().await {
            return Err(Outcome::Skipped(Failure::because(format!("not started: {why}"))));
        }
        let mut patience = Patience::new();
        while let Err(fault) = account.execute_change_set(&target.stack, change_set, &token).await {
            // Whatever the answer was: an earlier one may have been lost after CloudFormation began.
            match has_begun(account, &operation, stop).await {
                Begun::Yes => break,
                Begun::No if self.engine.halted().await.is_some() => return Err(unstarted(&fault)),
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
