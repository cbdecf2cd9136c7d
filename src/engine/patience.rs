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

/// How long to go on asking.
pub struct Patience {
    pace: Pace,
    begun: Instant,
    /// Since when, and how often, there was no answer although the credentials were good.
    unanswered: Option<(Instant, u32)>,
}

impl Patience {
    /// Nothing was asked yet.
    pub fn new() -> Self {
        Self { pace: Pace::new(), begun: Instant::now(), unanswered: None }
    }

    /// Tells whether to ask again after a fault.
    pub fn bears(&mut self, fault: &Fault) -> bool {
        if fault.kind == FaultKind::Credentials {
            self.unanswered = None;
            return self.begun.elapsed() < UNTIL_RENEWED;
        }
        if fault.kind == FaultKind::Throttled {
            self.pace.slow_down();
        }
        let (since, attempts) = self.unanswered.get_or_insert((Instant::now(), 0));
        *attempts += 1;
        fault.passes() && (*attempts < ATTEMPTS || since.elapsed() < A_WHILE)
    }

    /// Pauses before the next question.
    pub async fn pause(&mut self) {
        self.pace.pause().await;
    }
}

/// Asks until there is an answer, a fault that lasts, or a wish to stop. What is asked must be safe to drop and to
/// repeat.
pub async fn patiently<T, F>(stop: &Stop, ask: impl Fn() -> F) -> Result<T, Fault>
where
    F: Future<Output = Result<T, Fault>>,
{
    let stopped = || Err(Fault::new(FaultKind::Unreachable, "stop", "the run was stopped"));
    let mut patience = Patience::new();
    loop {
        let answer = tokio::select! {
            biased;
            answer = ask() => answer,
            () = stop.requested() => return stopped(),
        };
        match answer {
            Err(fault) if patience.bears(&fault) => {}
            other => return other,
        }
        tokio::select! {
            biased;
            () = patience.pause() => {}
            () = stop.requested() => return stopped(),
        }
    }
}
