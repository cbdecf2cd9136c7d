//! Asking again where an answer failed in passing (safety rule 5).

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

use super::Stop;
use super::pace::Pace;
use crate::domain::{Fault, FaultKind};

/// How often a question is asked at least, on top of the retries within each call.
const ATTEMPTS: u32 = 8;

/// For how long a question is asked at least.
const A_WHILE: Duration = Duration::from_mins(2);

/// For how long a question is asked again while the credentials cannot be renewed: that pauses a target, and decides
/// nothing about it.
const UNTIL_RENEWED: Duration = Duration::from_mins(15);

/// Asks until there is an answer, a fault that lasts, or a wish to stop. What is asked must be safe to drop and to
/// repeat.
pub async fn patiently<T, F>(stop: &Stop, ask: impl Fn() -> F) -> Result<T, Fault>
where
    F: Future<Output = Result<T, Fault>>,
{
    let stopped = || Err(Fault::new(FaultKind::Unreachable, "stop", "the run was stopped"));
    let mut pace = Pace::new();
    let mut attempt = 1;
    let begun = Instant::now();
    loop {
        let answer = tokio::select! {
            biased;
            answer = ask() => answer,
            () = stop.requested() => return stopped(),
        };
        match answer {
            Err(fault) if fault.kind == FaultKind::Credentials && begun.elapsed() < UNTIL_RENEWED => {}
            Err(fault) if fault.passes() && (attempt < ATTEMPTS || begun.elapsed() < A_WHILE) => {}
            other => return other,
        }
        attempt += 1;
        tokio::select! {
            biased;
            () = pace.pause() => {}
            () = stop.requested() => return stopped(),
        }
    }
}
