//! Following a stack to the end of its operation, by its events.

use std::time::Duration;

use tokio::time::sleep;

use super::Stop;
use crate::domain::stack::{Settled, root_cause};
use crate::domain::{Failure, Fault, StackEvent, StackStatus, TargetId};
use crate::event::{Event, Events};
use crate::ports::TenantAccount;

/// How an operation that was followed has ended.
pub enum Ending {
    /// The stack came to rest; the failure is what its events say, should one be wanted.
    Settled(Settled, Failure),
    /// It goes on without being followed.
    Detached(Failure),
}

/// The pauses between looks: short at first, since many updates take seconds, then longer, and never in step
/// with other targets.
pub struct Pace(Duration);

impl Pace {
    const FIRST: Duration = Duration::from_millis(250);
    const LONGEST: Duration = Duration::from_secs(5);

    /// Starts with the shortest pause.
    pub fn new() -> Self {
        Self(Self::FIRST)
    }

    /// Pauses, and makes the next pause longer.
    pub async fn pause(&mut self) {
        sleep(self.0.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
        self.0 = Self::LONGEST.min(self.0.mul_f64(1.5));
    }
}

/// Follows the operation that began after the event `seen` until the stack's own event says that it is over.
///
/// One call a look: the stack's events carry its status too. A look that fails in passing decides nothing
/// (safety rule 5); one that is refused ends the following, but not the operation.
pub async fn follow(
    account: &dyn TenantAccount,
    target: &TargetId,
    stack_id: &str,
    mut seen: Option<String>,
    events: &Events,
    stop: &Stop,
) -> Ending {
    let mut history: Vec<StackEvent> = Vec::new();
    let mut pace = Pace::new();
    loop {
        tokio::select! {
            () = pace.pause() => {}
            () = stop.requested() => return Ending::Detached(still_running("the run was stopped")),
        }
        let (before, known) = (seen.clone(), history.len());
        let new = match account.events(stack_id, seen.as_deref()).await {
            Ok(new) => new,
            Err(fault) if fault.passes() => continue,
            Err(fault) => return Ending::Detached(lost_sight(&fault)),
        };
        let mut status = None;
        for event in new {
            seen = Some(event.id.clone());
            events.emit(Event::Stack { target: target.clone(), stack_event: event.clone() });
            if event.is_stack {
                status = Some(StackStatus::read(&event.status));
            }
            history.push(event);
        }
        // The last word counts. A failure may be followed by a rollback that has no event yet: ask the stack.
        let Some(status) = status.filter(|status| status.settled() != Settled::NotYet) else { continue };
        if status.settled() == Settled::Failed {
            match account.stack(stack_id).await {
                Ok(Some(stack)) if stack.status != status => continue,
                Err(fault) if fault.passes() => {
                    // What was seen has to be seen again.
                    seen = before;
                    history.truncate(known);
                    continue;
                }
                _ => {}
            }
        }
        let failure = cause(account, stack_id, &history, &status).await;
        return Ending::Settled(status.settled(), failure);
    }
}

fn still_running(why: &str) -> Failure {
    Failure::because(format!("{why}; CloudFormation goes on with the stack"))
        .hint("see where it is with `tenantry status`")
}

fn lost_sight(fault: &Fault) -> Failure {
    still_running(&format!("the stack can no longer be followed: {fault}"))
}

/// Names the resource that failed first, or the stack's status where no event names one.
async fn cause(account: &dyn TenantAccount, stack_id: &str, history: &[StackEvent], status: &StackStatus) -> Failure {
    if matches!(status.settled(), Settled::Done | Settled::Gone) {
        return Failure::because(format!("the stack is {status}"));
    }
    let found = root_cause(history);
    if let Some(event) = found.filter(|event| !event.is_stack) {
        return of_resource(event);
    }
    // What fails before the first resource is in a list of its own; without it the reason only says to look there.
    let early = account.validation_failures(stack_id).await.unwrap_or_default();
    match (early.first(), found.and_then(|event| event.reason.clone())) {
        (Some(event), _) => of_resource(event),
        (None, Some(reason)) => Failure::because(reason),
        (None, None) => Failure::because(format!("the stack is {status}, and no event says why")),
    }
}

fn of_resource(event: &StackEvent) -> Failure {
    Failure {
        resource: Some(event.logical_id.clone()).filter(|text| !text.is_empty()),
        resource_type: Some(event.resource_type.clone()).filter(|text| !text.is_empty()),
        reason: event.reason.clone().unwrap_or_else(|| format!("{} without a reason", event.status)),
        hint: None,
    }
}
