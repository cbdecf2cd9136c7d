//! Looking at a deployed target from outside: its functions answer, its pages load.

use std::time::Duration;

use tokio::time::sleep;

use super::Stop;
use super::patience::patiently;
use crate::domain::check::lacks;
use crate::domain::{Check, Failure, Fault, Outcome, Target};
use crate::event::{Event, Events};
use crate::ports::TenantAccount;

/// A check is tried so often before it fails, since what was just deployed may need a moment.
const ATTEMPTS: u32 = 5;
const PAUSE: Duration = Duration::from_secs(2);

/// Runs a target's checks in their order; the first that does not hold ends it as failed. Where there is no answer for a
/// long while, or the run is stopped, nothing is known: that is no failure (safety rules 5 and 6).
pub async fn verify(
    account: &dyn TenantAccount,
    target: &Target,
    stack_id: &str,
    events: &Events,
    stop: &Stop,
) -> Result<(), Outcome> {
    for check in &target.checks {
        let mut attempt = 1;
        while let Err(problem) = try_check(account, check, stack_id, stop).await {
            let (text, is_known) = match problem {
                Problem::Unmet(_) if attempt < ATTEMPTS && !stop.is_requested() => {
                    attempt += 1;
                    sleep(PAUSE).await;
                    continue;
                }
                Problem::Refused(text) => (text, true),
                // What a stop has cut short is not known to be ill.
                Problem::Unmet(text) => (text, attempt >= ATTEMPTS),
                Problem::Passing(text) => (text, false),
            };
            let failure = Failure::because(format!("{check}: {text}"));
            return Err(if is_known {
                Outcome::Failed(failure.hint("the stack itself is deployed; the check failed after it"))
            } else {
                Outcome::Detached(failure.hint("the stack itself is deployed; `tenantry resume` runs the check again"))
            });
        }
        events.emit(Event::CheckPassed { target: target.id.clone(), check: check.to_string() });
    }
    Ok(())
}

/// Why a check does not hold.
enum Problem {
    /// It never will.
    Refused(String),
    /// The answer is not as expected; it may become so.
    Unmet(String),
    /// There was no answer.
    Passing(String),
}

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        if fault.passes() { Self::Passing(fault.to_string()) } else { Self::Refused(fault.to_string()) }
    }
}

async fn try_check(account: &dyn TenantAccount, check: &Check, stack_id: &str, stop: &Stop) -> Result<(), Problem> {
    match check {
        Check::Invoke { function, payload, expect } => {
            let answer = patiently(stop, || account.invoke(function, payload)).await?;
            if let Some(error) = answer.error {
                return Err(Problem::Unmet(format!("the function failed ({error})")));
            }
            lacks(expect, &answer.payload).map_or(Ok(()), |difference| Err(Problem::Unmet(difference)))
        }
        Check::Fetch { output, path, status, timeout } => {
            let stack = patiently(stop, || account.stack(stack_id)).await?;
            let url = stack.and_then(|mut stack| stack.outputs.remove(output));
            let url = url.ok_or_else(|| Problem::Refused(format!("the stack has no output {output}")))?;
            let url = format!("{}{path}", url.trim_end_matches('/'));
            // A page that does not answer is not well: that is what the check is for.
            let answered = account.fetch(&url, *timeout).await.map_err(|fault| Problem::Unmet(fault.to_string()))?;
            if answered == *status {
                Ok(())
            } else {
                Err(Problem::Unmet(format!("the answer's status is {answered}, {status} was expected")))
            }
        }
    }
}
