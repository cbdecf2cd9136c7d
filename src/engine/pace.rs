//! The pauses between looks at something that takes its time.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// Short pauses at first, since many updates take seconds, longer ones after a minute, and never in step with other
/// targets. Within the first minute an end is known after three quarters of a second in the median.
pub struct Pace {
    next: Duration,
    begun: Instant,
}

impl Pace {
    const FIRST: Duration = Duration::from_millis(250);
    const FIRST_OF_A_STACK: Duration = Duration::from_millis(750);
    const SOON: Duration = Duration::from_millis(1500);
    const LATER: Duration = Duration::from_secs(5);

    /// Starts with the shortest pause.
    pub fn new() -> Self {
        Self { next: Self::FIRST, begun: Instant::now() }
    }

    /// Starts as an operation on a stack does, which is never over at once.
    pub fn of_a_stack() -> Self {
        Self { next: Self::FIRST_OF_A_STACK, ..Self::new() }
    }

    /// Makes the next pause at least a long one: somebody has asked for fewer requests.
    pub fn slow_down(&mut self) {
        self.next = Self::LATER;
    }

    /// Pauses, and makes the next pause longer.
    pub async fn pause(&mut self) {
        sleep(self.next.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
        // The pause after a slow one is an ordinary one again.
        let longest = if self.begun.elapsed() < Duration::from_mins(1) { Self::SOON } else { Self::LATER };
        self.next = longest.min(self.next * 2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a look costs, and how late an end is known: by looks at a stack of every length up to an hour.
    #[tokio::test(start_paused = true)]
    async fn ends_are_known_soon_and_looks_are_few() {
        let mut ends = vec![];
        let mut pace = Pace::of_a_stack();
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_hours(1) {
            pace.pause().await;
            ends.push(begun.elapsed());
        }
        assert!(ends.len() < 850, "{} looks in an hour", ends.len());
        let late = |end: Duration| ends.iter().find(|look| **look >= end).map(|look| look.saturating_sub(end));
        let mut lates: Vec<Duration> =
            (1..600).filter_map(|tenths| late(Duration::from_millis(tenths * 100))).collect();
        lates.sort();
        assert!(lates[lates.len() / 2] < Duration::from_millis(900), "{:?} in the median", lates[lates.len() / 2]);
    }
}
