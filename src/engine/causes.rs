//! Why a stack's operation has failed: the resource that failed first, also in the stacks within it.

use jiff::Timestamp;

use crate::domain::stack::{Settled, root_cause};
use crate::domain::{Failure, StackEvent, StackStatus, TargetId};
use crate::event::{Event, Events};
use crate::ports::TenantAccount;

use super::Stop;
use super::patience::patiently;

/// How deep nested stacks are looked into.
const DEEPEST: usize = 8;

/// Names the resource that failed first, or the stack's status where no event names one.
pub async fn failure_of(
    account: &dyn TenantAccount,
    target: &TargetId,
    stack_id: &str,
    history: &[StackEvent],
    status: &StackStatus,
    events: &Events,
    stop: &Stop,
) -> Failure {
    let found = root_cause(history);
    // A stack that is gone may have been deleted because it failed.
    if status.settled() == Settled::Gone && found.is_none() {
        return Failure::because(format!("the stack is {status}"));
    }
    let began = history.iter().filter_map(|event| event.time).min();
    let failure = match found.filter(|event| !event.is_stack) {
        Some(event) => of_resource(&innermost(account, target, event, began, events, stop).await),
        None => early(account, stack_id, found, began, status, stop).await,
    };
    match status {
        StackStatus::RollbackComplete => failure.hint(
            "the stack was never created; delete what is left with `tenantry destroy`, selecting this tenant, then \
             release again",
        ),
        _ => failure,
    }
}

/// Returns the event that began a failure. Of a nested stack its parent says only which resources failed: why stands in
/// its own events, which are told too.
async fn innermost(
    account: &dyn TenantAccount,
    target: &TargetId,
    event: &StackEvent,
    began: Option<Timestamp>,
    events: &Events,
    stop: &Stop,
) -> StackEvent {
    let mut innermost = event.clone();
    for _ in 0..DEEPEST {
        let Some(nested) = innermost.nested_stack().map(str::to_owned) else { break };
        let Ok(inner) = patiently(stop, || account.events(&nested, began)).await else { break };
        let within = |event: StackEvent| StackEvent {
            logical_id: format!("{}/{}", innermost.logical_id, event.logical_id),
            ..event
        };
        let failed: Vec<StackEvent> =
            inner.into_iter().filter(|event| event.has_failed() && !event.is_stack).map(within).collect();
        for stack_event in failed.iter().cloned() {
            events.emit(Event::Stack { target: target.clone(), stack_event });
        }
        let Some(cause) = root_cause(&failed) else { break };
        innermost = cause.clone();
    }
    innermost
}

/// Names what failed before the first resource: that is in a list of its own, and without it the reason of the stack
/// only says to look there.
async fn early(
    account: &dyn TenantAccount,
    stack_id: &str,
    found: Option<&StackEvent>,
    began: Option<Timestamp>,
    status: &StackStatus,
    stop: &Stop,
) -> Failure {
    let early = patiently(stop, || account.validation_failures(stack_id, None)).await.unwrap_or_default();
    let of_this_operation = |event: &&StackEvent| began.is_none() || event.time.is_none() || event.time >= began;
    match (early.iter().find(of_this_operation), found.and_then(|event| event.reason.clone())) {
        (Some(event), _) => of_resource(event),
        (None, Some(reason)) => Failure::because(reason),
        (None, None) => Failure::because(format!("the stack is {status}, and no event says why")),
    }
}

/// Returns an event of a resource as a failure.
pub fn of_resource(event: &StackEvent) -> Failure {
    Failure {
        resource: Some(event.logical_id.clone()).filter(|text| !text.is_empty()),
        resource_type: Some(event.resource_type.clone()).filter(|text| !text.is_empty()),
        reason: event.reason.clone().unwrap_or_else(|| format!("{} without a reason", event.status)),
        hint: None,
    }
}
