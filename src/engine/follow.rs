//! Following a stack to the end of its operation, by its events.

use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

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

/// An operation on a stack, as it is found again.
pub struct Operation<'a> {
    /// ARN of the stack.
    pub stack_id: &'a str,
    /// The token of the request that began it. Whatever has another one is somebody else's, and decides nothing.
    pub token: &'a str,
    /// The newest event before it, if there was one.
    pub after: Option<String>,
    /// When it is followed no longer.
    pub until: Instant,
}

/// After so many looks without news the stack itself is asked: an event may have come in behind the last one seen.
const QUIET_LOOKS: u32 = 6;
/// After so many looks without any event of the operation it is given up: about two minutes.
const SILENT_LOOKS: u32 = 30;
/// After so many looks that failed one after the other the reader is told.
const FAILED_LOOKS: u32 = 10;

/// Follows an operation until the stack's own event says that it is over.
///
/// One call a look: the stack's events carry its status too. A look that fails in passing decides nothing
/// (safety rule 5); one that is refused ends the following, but not the operation, and so does a wish to stop.
pub async fn follow(
    account: &dyn TenantAccount,
    target: &TargetId,
    operation: Operation<'_>,
    events: &Events,
    stop: &Stop,
) -> Ending {
    let Operation { stack_id, token, after: mut seen, until } = operation;
    let mut history: Vec<StackEvent> = Vec::new();
    let mut last: Option<StackStatus> = None;
    let (mut quiet, mut failed) = (0, 0);
    let mut pace = Pace::new();
    loop {
        // Reads are safe to drop: what is asked once more does no harm.
        let look = async {
            pace.pause().await;
            account.events(stack_id, seen.as_deref()).await
        };
        let new = tokio::select! {
            biased;
            new = look => new,
            () = stop.requested() => return Ending::Detached(still_running("the run was stopped")),
            () = sleep_until(until) => return Ending::Detached(still_running("it has not ended within its deadline")),
        };
        let new = match new {
            Ok(new) => new,
            // However long: only the deadline ends it.
            Err(fault) if fault.passes() => {
                failed += 1;
                if failed == FAILED_LOOKS {
                    events.notice(format!("{target}: its stack cannot be looked at for a while: {fault}"));
                }
                continue;
            }
            Err(fault) => return Ending::Detached(lost_sight(&fault)),
        };
        failed = 0;
        quiet += 1;
        for event in new {
            seen = Some(event.id.clone());
            if event.token.as_deref() != Some(token) {
                continue;
            }
            quiet = 0;
            events.emit(Event::Stack { target: target.clone(), stack_event: event.clone() });
            if event.is_stack {
                last = Some(StackStatus::read(&event.status));
            }
            history.push(event);
        }
        // The last word counts. A failure may be followed by a rollback that has no event yet, and after a long
        // silence a word may have been missed: then the stack is asked. While nothing of the operation was seen,
        // the stack's status says nothing about it, but that the stack is gone.
        let settled = last.as_ref().map_or(Settled::NotYet, StackStatus::settled);
        let is_silent = quiet > 0 && quiet % QUIET_LOOKS == 0;
        let status = match &last {
            Some(_) if settled == Settled::Failed => ask(account, stack_id).await,
            Some(_) if settled == Settled::NotYet && is_silent => ask(account, stack_id).await,
            Some(status) if settled != Settled::NotYet => Some(status.clone()),
            None if is_silent => ask(account, stack_id).await.filter(|status| status.settled() == Settled::Gone),
            _ => None,
        };
        if let Some(status) = status.filter(|status| status.settled() != Settled::NotYet) {
            let failure = cause(account, stack_id, &history, &status).await;
            let failure = match status {
                StackStatus::RollbackComplete => failure.hint(
                    "the stack was never created; delete what is left with `tenantry destroy`, selecting this tenant, then release again",
                ),
                _ => failure,
            };
            return Ending::Settled(status.settled(), failure);
        }
        if last.is_none() && quiet >= SILENT_LOOKS {
            return Ending::Detached(still_running(
                "CloudFormation took the request, but no event shows that it began",
            ));
        }
    }
}

/// Returns the stack's status, or none where it cannot be had at this moment.
async fn ask(account: &dyn TenantAccount, stack_id: &str) -> Option<StackStatus> {
    account.stack(stack_id).await.ok().flatten().map(|stack| stack.status)
}

/// Says that a stack goes on without being followed.
pub fn still_running(why: &str) -> Failure {
    Failure::because(format!("{why}; CloudFormation goes on with the stack"))
        .hint("see where it is with `tenantry status`")
}

fn lost_sight(fault: &Fault) -> Failure {
    still_running(&format!("the stack can no longer be followed: {fault}"))
}

/// Names the resource that failed first, or the stack's status where no event names one.
async fn cause(account: &dyn TenantAccount, stack_id: &str, history: &[StackEvent], status: &StackStatus) -> Failure {
    let found = root_cause(history);
    // A stack that is gone may have been deleted because it failed.
    if status.settled() == Settled::Done || (status.settled() == Settled::Gone && found.is_none()) {
        return Failure::because(format!("the stack is {status}"));
    }
    if let Some(event) = found.filter(|event| !event.is_stack) {
        return of_resource(event);
    }
    // What fails before the first resource is in a list of its own; without it the reason only says to look there.
    let began = history.first().and_then(|event| event.time);
    let early = account.validation_failures(stack_id, None).await.unwrap_or_default();
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
