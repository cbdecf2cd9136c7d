//! Looking at a deployed target from outside: its functions answer, its pages load.

use std::time::Duration;

use tokio::time::sleep;

use super::Stop;
use crate::domain::check::lacks;
use crate::domain::{Check, Failure, Fault, Target};
use crate::event::{Event, Events};
use crate::ports::TenantAccount;

/// A check is tried so often before it fails, since what was just deployed may need a moment.
const ATTEMPTS: u32 = 5;
const PAUSE: Duration = Duration::from_secs(2);

/// Runs a target's checks in their order; the first that does not hold ends it.
pub async fn verify(
    account: &dyn TenantAccount,
    target: &Target,
    stack_id: &str,
    events: &Events,
    stop: &Stop,
) -> Result<(), Failure> {
    for check in &target.checks {
        let mut attempt = 1;
        while let Err(problem) = try_check(account, check, stack_id).await {
            let again = match &problem {
                Problem::Refused(_) => false,
                Problem::Unmet(_) | Problem::Passing(_) => attempt < ATTEMPTS && !stop.is_requested(),
            };
            if !again {
                let (Problem::Refused(text) | Problem::Unmet(text) | Problem::Passing(text)) = problem;
                let failure = Failure::because(format!("{check}: {text}"));
                return Err(failure.hint("the stack itself is deployed; the check failed after it"));
            }
            attempt += 1;
            sleep(PAUSE).await;
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

async fn try_check(account: &dyn TenantAccount, check: &Check, stack_id: &str) -> Result<(), Problem> {
    match check {
        Check::Invoke { function, payload, expect } => {
            let answer = account.invoke(function, payload).await?;
            if let Some(error) = answer.error {
                return Err(Problem::Unmet(format!("the function failed ({error})")));
            }
            lacks(expect, &answer.payload).map_or(Ok(()), |difference| Err(Problem::Unmet(difference)))
        }
        Check::Fetch { output, path, status, timeout } => {
            let stack = account.stack(stack_id).await?;
            let url = stack.and_then(|mut stack| stack.outputs.remove(output));
            let url = url.ok_or_else(|| Problem::Refused(format!("the stack has no output {output}")))?;
            let answered = account.fetch(&format!("{}{path}", url.trim_end_matches('/')), *timeout).await?;
            if answered == *status {
                Ok(())
            } else {
                Err(Problem::Unmet(format!("the answer's status is {answered}, {status} was expected")))
            }
        }
    }
}
