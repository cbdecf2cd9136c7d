//! Following a stack to the end of its operation, by its events.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, sleep_until};

use super::Stop;
use super::causes::failure_of;
use super::news::News;
use super::pace::Pace;
use super::patience::patiently;
use super::usual::Usual;
use crate::domain::stack::Settled;
use crate::domain::{Failure, Fault, FaultKind, StackEvent, StackStatus, TargetId};
use crate::event::{Event, Events};
use crate::ports::TenantAccount;

/// How an operation that was followed has ended.
pub enum Ending {
    /// The stack came to rest; the failure is what its events say, should one be wanted.
    Settled(Settled, Failure),
    /// It goes on without being followed.
    Detached(Failure),
}

/// An operation on a stack, as it is found again.
pub struct Operation<'a> {
    /// ARN of the stack.
    pub stack_id: &'a str,
    /// The token of the request that began it. Whatever has another one is somebody else's, and decides nothing.
    pub token: &'a str,
    /// From when on its events are read, by CloudFormation's clock; all are where that is not known.
    pub since: Option<Timestamp>,
    /// When it is followed no longer.
    pub until: Instant,
    /// How long its like usually takes, where that is of use.
    pub usual: Option<&'a Usual>,
}

/// After so many looks without news the stack itself is asked: an event may have come in behind the last one seen.
const QUIET_LOOKS: u32 = 6;
/// After so long without any event of the operation it is given up.
const SILENCE: Duration = Duration::from_mins(2);
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
    let Operation { stack_id, token, since, until, usual } = operation;
    let mut news = News::new(since);
    // What may be needed to say why it has failed.
    let mut history: Vec<StackEvent> = Vec::new();
    let mut last: Option<StackEvent> = None;
    let (mut quiet, mut failed) = (0, 0);
    let mut pace = Pace::of_a_stack();
    let begun = Instant::now();
    // When its first event was, by CloudFormation's clock.
    let mut began: Option<Timestamp> = None;
    loop {
        // Reads are safe to drop: what is asked once more does no harm.
        let look = async {
            pace.pause_for_a_stack(events.now(), usual).await;
            account.events(stack_id, news.from()).await
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
                if fault.kind == FaultKind::Throttled {
                    pace.slow_down();
                }
                if failed == FAILED_LOOKS {
                    events.notice(format!("{target}: its stack cannot be looked at for a while: {fault}"));
                }
                continue;
            }
            Err(fault) => return Ending::Detached(lost_sight(&fault)),
        };
        failed = 0;
        quiet += 1;
        for event in told(&mut news, new, token, target, events) {
            quiet = 0;
            began = began.or(event.time);
            // One that appears late says nothing about how the stack is now.
            if event.is_stack && last.as_ref().is_none_or(|last| last.time <= event.time) {
                last = Some(event.clone());
            }
            if event.is_stack || event.has_failed() {
                history.push(event);
            }
        }
        // The last word counts. A failure may be followed by a rollback that has no event yet, and after a long
        // silence a word may have been missed: then the stack is asked. While nothing of the operation was seen,
        // the stack's status says nothing about it, but that the stack is gone.
        let last_status = last.as_ref().map(|event| StackStatus::read(&event.status));
        let settled = last_status.as_ref().map_or(Settled::NotYet, StackStatus::settled);
        let is_silent = quiet > 0 && quiet % QUIET_LOOKS == 0;
        if is_silent && last.is_none() {
            // The time from when on events are read may be a wrong one.
            news = News::new(None);
        }
        let status = match &last_status {
            Some(_) if settled == Settled::Failed => ask(account, stack_id).await,
            Some(_) if settled == Settled::NotYet && is_silent => ask(account, stack_id).await,
            Some(status) if settled != Settled::NotYet => Some(status.clone()),
            None if is_silent => ask(account, stack_id).await.filter(|status| status.settled() == Settled::Gone),
            _ => None,
        };
        if let Some(status) = status.filter(|status| status.settled() != Settled::NotYet) {
            let ended = last.as_ref().and_then(|event| event.time);
            // Where no event shows the end, nobody knows when that was.
            let shown = last_status.as_ref() == Some(&status);
            if let (true, Some(usual), Some((began, ended))) = (shown, usual, began.zip(ended)) {
                let took = Duration::try_from(ended.duration_since(began)).unwrap_or_default();
                usual.learn(took, status.settled() == Settled::Done);
            }
            if status.settled() == Settled::Done {
                return Ending::Settled(Settled::Done, Failure::because(format!("the stack is {status}")));
            }
            if settled == Settled::NotYet {
                // It has ended between the look and the question: what came in meanwhile says why.
                let new = patiently(stop, || account.events(stack_id, news.from())).await.unwrap_or_default();
                history.extend(told(&mut news, new, token, target, events));
            }
            let failure = failure_of(account, target, stack_id, &history, &status, events, stop).await;
            return Ending::Settled(status.settled(), failure);
        }
        // Looks that failed have shown nothing, and the whole history has to be read before it is said that there is none.
        if last_status.is_none() && begun.elapsed() > SILENCE && quiet > QUIET_LOOKS {
            return Ending::Detached(still_running(
                "CloudFormation took the request, but no event shows that it began",
            ));
        }
    }
}

/// Returns what is new of the operation, and tells it.
fn told(news: &mut News, seen: Vec<StackEvent>, token: &str, target: &TargetId, events: &Events) -> Vec<StackEvent> {
    let new = news.take(seen).into_iter().filter(|event| event.token.as_deref() == Some(token));
    let tell = |stack_event: &StackEvent| {
        events.emit(Event::Stack { target: target.clone(), stack_event: stack_event.clone() });
    };
    new.inspect(tell).collect()
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
