//! Bringing back stacks whose rollback has failed. Only called after somebody has asked for it by name.

use tokio::time::Instant;

use super::access::Entered;
use super::follow::Ending;
use super::held::{Held, held};
use super::operate::Wanted;
use super::patience::patiently;
use super::window::{self, Flow};
use super::{Engine, Finished, Progress};
use crate::domain::lifecycle::State;
use crate::domain::stack::Settled;
use crate::domain::{Failure, Fault, Outcome, Rollout, StackStatus};
use crate::event::Phase;

/// A target whose stack's rollback has failed.
pub struct Stuck {
    /// The target.
    pub entered: Entered,
    /// ARN of the stack.
    pub stack_id: String,
    /// The resources that could not be rolled back, also those of nested stacks.
    pub resources: Vec<Held>,
}

impl Engine {
    /// Returns the targets whose stacks are `UPDATE_ROLLBACK_FAILED`, and how those have ended that could not be looked at.
    pub async fn stuck(&self, entered: Vec<Entered>) -> (Vec<Stuck>, Vec<Finished>) {
        let look = |entered: Entered| {
            let (engine, id) = (self.clone(), entered.target.id.clone());
            async move { engine.look(entered).await.map_err(|outcome| (id, outcome)) }
        };
        let (mut found, mut unread) = (Vec::new(), Vec::new());
        for result in window::run(entered, window::WIDE, &self.stop, look, |_| Flow::Start).await {
            match result {
                Ok(Ok(stuck)) => found.extend(stuck),
                Ok(Err(ended)) => unread.push(ended),
                Err(entered) => {
                    let why = Failure::because("not looked at, since the run was stopped");
                    unread.push((entered.target.id, Outcome::Skipped(why)));
                }
            }
        }
        (found, unread)
    }

    /// Looks at a stack; none where its rollback has not failed.
    async fn look(&self, entered: Entered) -> Result<Option<Stuck>, Outcome> {
        let Entered { target, account } = &entered;
        let account = account.as_ref().map_err(|failure| Outcome::Failed(failure.clone()))?.clone();
        let unread = |fault: Fault| self.unbegun(&fault);
        let stack = patiently(&self.stop, || account.stack(&target.stack)).await.map_err(unread)?;
        let stack = stack.filter(|stack| stack.status == StackStatus::UpdateRollbackFailed);
        let Some(stack) = stack else { return Ok(None) };
        let resources = held(account.as_ref(), &stack.id, &self.stop).await.map_err(unread)?;
        Ok(Some(Stuck { stack_id: stack.id, resources, entered }))
    }

    /// Lets CloudFormation go on with the rollback of these stacks, and follows each to its end. Of `skip` only what
    /// has failed in a stack is skipped there: it stays as it is.
    pub async fn recover(&self, stage: &str, rollout: Rollout, stuck: Vec<Stuck>, skip: &[String]) -> Vec<Finished> {
        let work = |engine: Self, Stuck { entered, stack_id, resources }: Stuck| {
            let skipped = resources.into_iter().filter(|held| skip.iter().any(|name| held.is(name)));
            let skip: Vec<String> = skipped.filter_map(|held| held.skipped_as).collect();
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
