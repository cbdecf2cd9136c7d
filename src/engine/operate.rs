//! Beginning an operation on a stack, once, and following it to its end.

use tokio::time::Instant;

use super::begun::{Begun, has_begun};
use super::follow::{Ending, Operation, follow};
use super::patience::patiently;
use super::{Engine, Progress};
use crate::domain::lifecycle::Step;
use crate::domain::{Digest, Failure, Fault, Outcome};
use crate::ports::TenantAccount;

/// What is to be done to a stack.
pub struct Wanted<'a> {
    /// The way into its account.
    pub account: &'a dyn TenantAccount,
    /// ARN of the stack.
    pub stack_id: &'a str,
    /// What it is, for messages: `the deletion`.
    pub what: &'a str,
    /// What makes this request another one than others on the same stack.
    pub seed: String,
    /// When it is followed no longer.
    pub until: Instant,
}

/// Returns the outcome of a target of which nothing was executed, since a call before that has failed: what passes
/// decides nothing (safety rule 5).
pub(super) fn unread(fault: &Fault) -> Outcome {
    let failure = Failure::because(fault.to_string());
    if fault.passes() { Outcome::Skipped(failure) } else { Outcome::Failed(failure) }
}

impl Engine {
    /// Returns the outcome of a target to which nothing was done.
    pub(super) fn unbegun(&self, fault: &Fault) -> Outcome {
        if self.stop.is_requested() { Outcome::Skipped(Failure::because(fault.to_string())) } else { unread(fault) }
    }

    /// Begins an operation by `call`, which gets the request's token, and follows the stack. One that failed before is a
    /// new request, and a repeated call the same (safety rule 3). Where the answer was lost, the stack says whether it
    /// has begun.
    ///
    /// # Errors
    ///
    /// Returns the target's outcome where nothing was begun, or where nobody can say.
    pub(super) async fn operate(
        &self,
        wanted: Wanted<'_>,
        progress: &mut Progress,
        call: impl AsyncFnOnce(&str) -> Result<(), Fault>,
    ) -> Result<Ending, Outcome> {
        let Wanted { account, stack_id, what, seed, until } = wanted;
        let seen = patiently(&self.stop, || account.newest_event(stack_id)).await;
        let since = seen.map_err(|fault| self.unbegun(&fault))?;
        let token = format!("tenantry-{}", Digest::of(format!("{seed} {stack_id} {since:?}")));
        if let Some(why) = self.halted().await {
            return Err(Outcome::Skipped(Failure::because(format!("not started: {why}"))));
        }
        progress.take(Step::Execute);
        let operation = Operation { stack_id, token: &token, since, until, usual: None };
        if let Err(fault) = call(&token).await {
            match has_begun(account, &operation, &self.stop).await {
                Begun::Yes => {}
                Begun::No => return Err(self.unbegun(&fault)),
                Begun::Unknown(why) => {
                    let why = format!("whether {what} began is not known: {fault}; {why}");
                    return Err(Outcome::Detached(Failure::because(why)));
                }
            }
        }
        let target = progress.target.clone();
        Ok(follow(account, &target, operation, &self.events, &self.stop).await)
    }
}
