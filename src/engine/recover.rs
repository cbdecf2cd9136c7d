//! Bringing back stacks whose rollback has failed. Only called after somebody has asked for it by name.

use std::collections::BTreeSet;

use tokio::time::Instant;

use super::access::Entered;
use super::causes::{DEEPEST, of_resource};
use super::follow::Ending;
use super::operate::Wanted;
use super::patience::patiently;
use super::window::{self, Flow};
use super::{Engine, Finished, Progress, Stop};
use crate::domain::lifecycle::State;
use crate::domain::stack::Settled;
use crate::domain::{Failure, Fault, Outcome, Rollout, StackEvent, StackStatus};
use crate::event::Phase;
use crate::ports::TenantAccount;

/// A target whose stack's rollback has failed.
pub struct Stuck {
    /// The target.
    pub entered: Entered,
    /// ARN of the stack.
    pub stack_id: String,
    /// The resources that could not be rolled back, also those of nested stacks.
    pub resources: Vec<Held>,
}

/// A resource that could not be rolled back.
pub struct Held {
    /// Why. Its resource has before it the nested stacks that it is in, as `Network/Queue`.
    pub failure: Failure,
    /// What CloudFormation skips it by: its logical id; in a nested stack after the name that stack has in its account.
    /// Source: `NestedStackName.ResourceLogicalID` under ResourcesToSkip in
    /// <https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_ContinueUpdateRollback.html>; the
    /// user guide's examples of such names have hyphens, which no logical id can have.
    skipped_as: String,
}

impl Held {
    /// Tells whether a name means this resource: as it is shown, with dots in place of the strokes, or as
    /// CloudFormation names it.
    pub fn is(&self, name: &str) -> bool {
        let shown = self.failure.resource.as_deref();
        shown == Some(name) || shown == Some(&name.replace('.', "/")) || self.skipped_as == name
    }
}

impl Engine {
    /// Returns the targets whose stacks are `UPDATE_ROLLBACK_FAILED`, and why others could not be looked at.
    pub async fn stuck(&self, entered: Vec<Entered>) -> (Vec<Stuck>, Vec<String>) {
        let look = |entered: Entered| {
            let stop = self.stop.clone();
            async move { stuck(entered, &stop).await }
        };
        let (mut found, mut problems) = (Vec::new(), Vec::new());
        for result in window::run(entered, window::WIDE, &self.stop, look, |_| Flow::Start).await {
            match result {
                Ok(Ok(stuck)) => found.extend(stuck),
                Ok(Err(problem)) => problems.push(problem),
                Err(entered) => {
                    problems.push(format!("{}: not looked at, since the run was stopped", entered.target.id));
                }
            }
        }
        (found, problems)
    }

    /// Lets CloudFormation go on with the rollback of these stacks, and follows each to its end. Of `skip` only what
    /// has failed in a stack is skipped there: it stays as it is.
    pub async fn recover(&self, stage: &str, rollout: Rollout, stuck: Vec<Stuck>, skip: &[String]) -> Vec<Finished> {
        let work = |engine: Self, Stuck { entered, stack_id, resources }: Stuck| {
            let skipped = resources.into_iter().filter(|held| skip.iter().any(|name| held.is(name)));
            let skip: Vec<String> = skipped.map(|held| held.skipped_as).collect();
            let until = Instant::now() + rollout.deadline;
            async move { engine.recover_target(entered, stack_id, skip, until).await }
        };
        let id = |stuck: &Stuck| stuck.entered.target.id.clone();
        self.over_targets(Phase::Recover, stage, &rollout, stuck, id, work).await
    }

    async fn recover_target(self, entered: Entered, stack_id: String, skip: Vec<String>, until: Instant) -> Finished {
        let Entered { target, account } = entered;
        let mut progress = Progress::new(&target.id, State::Planned, &self.events);
        let attempt = async {
            let account = account.map_err(Outcome::Failed)?;
            let (account, seed) = (account.as_ref(), format!("recover {skip:?}"));
            let wanted = Wanted { account, stack_id: &stack_id, what: "the rollback", seed, until };
            let go_on = async |token: &str| {
                account.continue_rollback(&stack_id, target.deployment_role.as_deref(), &skip, token).await
            };
            match self.operate(wanted, &mut progress, go_on).await? {
                Ending::Settled(Settled::RolledBack, _) => Ok(()),
                Ending::Settled(Settled::RollbackFailed, failure) => Err(Outcome::RollbackFailed(failure)),
                Ending::Settled(_, failure) => Err(Outcome::Failed(failure)),
                Ending::Detached(failure) => Err(Outcome::Detached(failure)),
            }
        };
        let outcome = attempt.await.err().unwrap_or(Outcome::Recovered);
        (target.id.clone(), progress.finish(outcome))
    }
}

/// Looks at a stack; none where its rollback has not failed.
async fn stuck(entered: Entered, stop: &Stop) -> Result<Option<Stuck>, String> {
    let Entered { target, account } = &entered;
    let account = account.as_ref().map_err(|failure| format!("{}: {failure}", target.id))?.clone();
    let unread = |fault: Fault| format!("{}: {fault}", target.id);
    let stack = patiently(stop, || account.stack(&target.stack)).await.map_err(unread)?;
    let Some(stack) = stack.filter(|stack| stack.status == StackStatus::UpdateRollbackFailed) else { return Ok(None) };
    let resources = held(account.as_ref(), &stack.id, stop).await.map_err(unread)?;
    Ok(Some(Stuck { stack_id: stack.id, resources, entered }))
}

/// Returns the resources that a stack's last rollback could not bring back. Of a nested stack whose rollback has failed
/// too, these are its own: the stack itself cannot be skipped.
async fn held(account: &dyn TenantAccount, stack_id: &str, stop: &Stop) -> Result<Vec<Held>, Fault> {
    let read = async |stack_id: &str| patiently(stop, || account.events(stack_id, None)).await;
    let (mut held, mut known) = (Vec::new(), BTreeSet::new());
    let mut stacks = vec![(Vec::new(), String::new(), read(stack_id).await?)];
    while let Some((path, prefix, events)) = stacks.pop() {
        for event in failed_to_go_back(&events) {
            let path = [path.as_slice(), std::slice::from_ref(&event.logical_id)].concat();
            if let Some(nested) = event.nested_stack().filter(|_| path.len() <= DEEPEST)
                && let Ok(inner) = read(nested).await
                && has_stuck(&inner)
            {
                let name = nested.split('/').nth(1).unwrap_or(nested);
                stacks.push((path, format!("{name}."), inner));
                continue;
            }
            let skipped_as = format!("{prefix}{}", event.logical_id);
            if known.insert(skipped_as.clone()) {
                let failure = Failure { resource: Some(path.join("/")), ..of_resource(event) };
                held.push(Held { failure, skipped_as });
            }
        }
    }
    Ok(held)
}

/// Returns what has failed in the last rollback of a stack. What was only cancelled can neither be skipped nor need it be.
fn failed_to_go_back(events: &[StackEvent]) -> impl Iterator<Item = &StackEvent> {
    let began = |event: &StackEvent| event.is_stack && event.status == "UPDATE_ROLLBACK_IN_PROGRESS";
    let from = events.iter().rposition(began).unwrap_or(0);
    events[from..].iter().filter(|event| !event.is_stack && event.status.ends_with("_FAILED") && !event.was_cancelled())
}

/// Tells whether the rollback of a nested stack has failed, by its own last event.
fn has_stuck(events: &[StackEvent]) -> bool {
    let last = events.iter().rev().find(|event| event.is_stack);
    last.is_some_and(|event| StackStatus::read(&event.status) == StackStatus::UpdateRollbackFailed)
}
