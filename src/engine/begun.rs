//! Whether an operation on a stack has begun, where the answer to its request was lost.

use super::Stop;
use super::follow::Operation;
use super::pace::Pace;
use super::patience::patiently;
use crate::domain::stack::Settled;
use crate::domain::{Digest, Fault, Stack, StackStatus};
use crate::ports::TenantAccount;

/// How many looks a stack has to show that an operation has begun: about nine seconds.
pub(super) const LOOKS: u32 = 8;

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
    for look in 1..=LOOKS {
        pace.pause().await;
        // Before it is said that there is nothing, all is read: a time from when on is no proof.
        let since = operation.since.filter(|_| look < LOOKS);
        let events = patiently(stop, || account.events(operation.stack_id, since)).await;
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
