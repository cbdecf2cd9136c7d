//! Bringing back stacks whose rollback has failed. Only called after somebody has asked for it by name.

use tokio::time::Instant;

use super::access::Entered;
use super::causes::of_resource;
use super::follow::Ending;
use super::operate::Wanted;
use super::patience::patiently;
use super::window::{self, Flow};
use super::{Engine, Finished, Progress, Stop};
use crate::domain::lifecycle::State;
use crate::domain::stack::Settled;
use crate::domain::{Failure, Fault, Outcome, Rollout, StackEvent, StackStatus, Target};
use crate::event::Phase;
use crate::ports::TenantAccount;

/// A target whose stack's rollback has failed.
pub struct Stuck {
    /// The target.
    pub entered: Entered,
    /// ARN of the stack.
    pub stack_id: String,
    /// The resources that could not be rolled back, with the reasons.
    pub resources: Vec<Failure>,
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
            let names = || resources.iter().filter_map(|failure| failure.resource.as_deref());
            let skip: Vec<String> =
                skip.iter().filter(|skip| names().any(|name| covers(skip, name))).cloned().collect();
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

/// Tells whether a resource to skip is a resource that has failed, or stands in a nested stack that has.
/// Source: ResourcesToSkip in <https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_ContinueUpdateRollback.html>
pub fn covers(skip: &str, failed: &str) -> bool {
    skip == failed || skip.strip_prefix(failed).is_some_and(|rest| rest.starts_with('.'))
}

/// Looks at a stack; none where its rollback has not failed.
async fn stuck(entered: Entered, stop: &Stop) -> Result<Option<Stuck>, String> {
    let Entered { target, account } = &entered;
    let account = account.as_ref().map_err(|failure| format!("{}: {failure}", target.id))?.clone();
    let unread = |fault: Fault| format!("{}: {fault}", target.id);
    let stack = patiently(stop, || account.stack(&target.stack)).await.map_err(unread)?;
    let Some(stack) = stack.filter(|stack| stack.status == StackStatus::UpdateRollbackFailed) else { return Ok(None) };
    let resources = failed_rollback(account.as_ref(), target, &stack.id, stop).await?;
    Ok(Some(Stuck { stack_id: stack.id, resources, entered }))
}

/// Returns the resources that a stack's last rollback could not bring back.
async fn failed_rollback(
    account: &dyn TenantAccount,
    target: &Target,
    stack_id: &str,
    stop: &Stop,
) -> Result<Vec<Failure>, String> {
    let events = patiently(stop, || account.events(stack_id, None)).await;
    let events = events.map_err(|fault| format!("{}: {fault}", target.id))?;
    let rollback = |event: &StackEvent| event.is_stack && event.status == "UPDATE_ROLLBACK_IN_PROGRESS";
    let from = events.iter().rposition(rollback).unwrap_or(0);
    let failed = |event: &&StackEvent| !event.is_stack && event.status.ends_with("_FAILED");
    let mut resources: Vec<Failure> = events[from..].iter().filter(failed).map(of_resource).collect();
    resources.dedup_by(|one, other| one.resource == other.resource);
    Ok(resources)
}
