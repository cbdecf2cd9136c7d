//! What keeps a stack's rollback from ending: the resources that could not go back, also in nested stacks.

use std::collections::BTreeSet;

use super::Stop;
use super::causes::of_resource;
use super::patience::patiently;
use crate::domain::{Failure, Fault, FaultKind, StackEvent, StackStatus};
use crate::ports::TenantAccount;

/// A resource that could not be rolled back.
pub struct Held {
    /// Why. Its resource has before it the nested stacks that it is in, as `Network/Queue`.
    pub failure: Failure,
    /// What CloudFormation skips it by: its logical id; in a nested stack after the name that stack has in its account.
    /// None for what it does not skip: what is not `UPDATE_FAILED`, and a nested stack unless that is being or was deleted.
    /// Source: `NestedStackName.ResourceLogicalID` under ResourcesToSkip in
    /// <https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_ContinueUpdateRollback.html>; the
    /// user guide's examples of such names have hyphens, which no logical id can have.
    pub(super) skipped_as: Option<String>,
}

impl Held {
    /// Tells whether it can be skipped, and whoever names it so means it: as it is shown, with dots in place of the
    /// strokes, or as CloudFormation names it.
    pub fn is(&self, name: &str) -> bool {
        let shown = self.failure.resource.as_deref();
        let names = |id: &str| id == name || shown == Some(name) || shown == Some(&name.replace('.', "/"));
        self.skipped_as.as_deref().is_some_and(names)
    }
}

/// Returns what could not go back of a stack whose rollback has failed.
pub async fn held(account: &dyn TenantAccount, stack_id: &str, stop: &Stop) -> Result<Vec<Held>, Fault> {
    let events = patiently(stop, || account.events(stack_id, None)).await?;
    within(account, &events, "", "", stop).await
}

/// Reads the events of one stack, and goes into those that it nests. `path` and `prefix` stand before what its resources are
/// shown and skipped as.
async fn within(
    account: &dyn TenantAccount,
    events: &[StackEvent],
    path: &str,
    prefix: &str,
    stop: &Stop,
) -> Result<Vec<Held>, Fault> {
    let begins = |status: &'static str| move |event: &StackEvent| event.is_stack && event.status == status;
    let operation = &events[events.iter().rposition(begins("UPDATE_IN_PROGRESS")).unwrap_or(0)..];
    // One that was continued in vain is still the same rollback.
    let rollback = operation.iter().position(begins("UPDATE_ROLLBACK_IN_PROGRESS")).unwrap_or(0);
    let failed = still_failed(&operation[rollback..]);
    let hold = |event: &StackEvent, can_be_skipped: bool| Held {
        failure: Failure { resource: Some(format!("{path}{}", event.logical_id)), ..of_resource(event) },
        skipped_as: can_be_skipped.then(|| format!("{prefix}{}", event.logical_id)),
    };
    let own = failed.iter().filter(|event| event.nested_stack().is_none());
    let mut held: Vec<Held> = own.map(|event| hold(event, event.status == "UPDATE_FAILED")).collect();

    // A parent calls a nested stack cancelled that has failed by itself, or tells of it only before it goes back.
    let mut known = BTreeSet::new();
    for event in operation.iter().filter(|event| event.status.ends_with("_FAILED")) {
        let Some(nested) = event.nested_stack().filter(|_| known.insert(&event.logical_id)) else { continue };
        let inner = match patiently(stop, || account.events(nested, None)).await {
            Err(fault) if fault.kind == FaultKind::NotFound => Vec::new(),
            inner => inner?,
        };
        let last = inner.iter().rev().find(|event| event.is_stack);
        let status = last.map_or(StackStatus::DeleteComplete, |event| StackStatus::read(&event.status));
        let is_stuck = status == StackStatus::UpdateRollbackFailed;
        let name = nested.split('/').nth(1).unwrap_or(nested);
        let found = if is_stuck {
            let path = format!("{path}{}/", event.logical_id);
            Box::pin(within(account, &inner, &path, &format!("{name}."), stop)).await?
        } else {
            Vec::new()
        };
        let told = failed.iter().find(|failed| failed.logical_id == event.logical_id);
        if found.is_empty() && (is_stuck || told.is_some()) {
            let is_gone = matches!(
                status,
                StackStatus::DeleteInProgress | StackStatus::DeleteComplete | StackStatus::DeleteFailed
            );
            held.push(hold(told.unwrap_or(&event), is_gone));
        }
        held.extend(found);
    }
    Ok(held)
}

/// Returns the last event of each resource that has failed and not been brought back since. An attempt to continue may have
/// ended before it came to a resource: then an earlier one tells. What was only cancelled is not in the way.
fn still_failed(rollback: &[StackEvent]) -> Vec<&StackEvent> {
    let mut known = BTreeSet::new();
    let last = rollback.iter().rev().filter(|event| !event.is_stack && known.insert(&event.logical_id));
    let mut failed: Vec<_> = last.filter(|event| event.status.ends_with("_FAILED") && !event.was_cancelled()).collect();
    failed.reverse();
    failed
}
