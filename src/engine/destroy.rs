//! Deleting the stacks of targets. Only called after somebody has asked for it by name.

use std::future::Future;

use tokio::time::Instant;

use super::access::Entered;
use super::follow::Ending;
use super::operate::Wanted;
use super::patience::patiently;
use super::window::{self, Flow};
use super::{Engine, Finished, Progress};
use crate::domain::lifecycle::State;
use crate::domain::stack::Settled;
use crate::domain::{Digest, Failure, Outcome, Rollout, StackStatus, Tally, TargetId};
use crate::event::{Event, Phase};

impl Engine {
    /// Deletes the stacks of the targets in parallel and follows each to its end. A target without a stack is
    /// deleted already; a stack in which an operation is running is left alone.
    pub async fn destroy(
        &self,
        application: &str,
        stage: &str,
        rollout: Rollout,
        entered: Vec<Entered>,
    ) -> Vec<Finished> {
        let work = |engine: Self, entered: Entered| {
            let (application, stage) = (application.to_owned(), stage.to_owned());
            let until = Instant::now() + rollout.deadline;
            async move { engine.destroy_target(&application, &stage, until, entered).await }
        };
        let id = |entered: &Entered| entered.target.id.clone();
        self.over_targets(Phase::Destroy, stage, &rollout, entered, id, work).await
    }

    /// Does something to every target, never more than `max-concurrency` at a time. After more failures than
    /// tolerated nothing new is started.
    pub(super) async fn over_targets<T, F>(
        &self,
        phase: Phase,
        stage: &str,
        rollout: &Rollout,
        items: Vec<T>,
        id: impl Fn(&T) -> TargetId,
        work: impl Fn(Self, T) -> F,
    ) -> Vec<Finished>
    where
        F: Future<Output = Finished> + Send + 'static,
    {
        let total = items.len();
        self.events.emit(Event::PhaseStarted { phase, stage: stage.to_owned(), targets: total });
        let tolerated = rollout.failure_tolerance.of(total);
        let mut failures = 0;
        let judge = |(_, outcome): &Finished| {
            failures += usize::from(outcome.is_failure());
            if failures > tolerated { Flow::Hold } else { Flow::Start }
        };
        let limit = rollout.max_concurrency.of(total).max(1);
        let results = window::run(items, limit, &self.stop, |item| work(self.clone(), item), judge).await;
        let why = if results.iter().any(Result::is_err) { self.halted().await } else { None };
        let why = why.unwrap_or("too many other targets failed");
        let skipped = |item: T| {
            let outcome = Outcome::Skipped(Failure::because(format!("not started: {why}")));
            (id(&item), Progress::new(&id(&item), State::Planned, &self.events).finish(outcome))
        };
        let finished: Vec<Finished> = results.into_iter().map(|result| result.unwrap_or_else(skipped)).collect();
        let tally = Tally::of(finished.iter().map(|(_, outcome)| outcome));
        self.events.emit(Event::PhaseFinished { phase, stage: stage.to_owned(), tally });
        finished
    }

    async fn destroy_target(self, application: &str, stage: &str, until: Instant, entered: Entered) -> Finished {
        let Entered { target, account } = entered;
        let mut progress = Progress::new(&target.id, State::Planned, &self.events);
        let id = target.id.clone();
        let attempt = async {
            let account = account.map_err(Outcome::Failed)?;
            let stack = patiently(&self.stop, || account.stack(&target.stack)).await;
            let Some(stack) = stack.map_err(|fault| self.unbegun(&fault))? else { return Err(Outcome::Deleted) };
            let is_in_review = stack.status == StackStatus::ReviewInProgress;
            match stack.status {
                StackStatus::DeleteComplete => return Err(Outcome::Deleted),
                StackStatus::ReviewInProgress => {}
                status if status.settled() == Settled::NotYet => {
                    let why = format!("stack {} is {status}: another operation is running on it", target.stack);
                    return Err(Outcome::Blocked(
                        Failure::because(why).hint("see with `tenantry status` when it has ended"),
                    ));
                }
                _ => {}
            }
            if is_in_review {
                // CloudFormation removes it at once, and tells no events of it.
                let token = format!("tenantry-{}", Digest::of(format!("delete {}", stack.id)));
                let deleted = account.delete_stack(&stack.id, target.deployment_role.as_deref(), &token).await;
                return deleted.map_err(|fault| self.unbegun(&fault));
            }
            let (account, seed) = (account.as_ref(), "delete".to_owned());
            let wanted = Wanted { account, stack_id: &stack.id, what: "the deletion", seed, until };
            let delete =
                async |token: &str| account.delete_stack(&stack.id, target.deployment_role.as_deref(), token).await;
            match self.operate(wanted, &mut progress, delete).await? {
                Ending::Settled(Settled::Gone, ..) => Ok(()),
                Ending::Settled(_, failure) => Err(Outcome::Failed(failure)),
                Ending::Detached(failure) => Err(Outcome::Detached(failure)),
            }
        };
        let outcome = attempt.await.err().unwrap_or(Outcome::Deleted);
        if outcome == Outcome::Deleted {
            self.remember(application, stage, &id, None, None, false).await;
        }
        (id, progress.finish(outcome))
    }
}
