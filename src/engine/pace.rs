//! The pauses between looks at something that takes its time.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, sleep};

use super::usual::Usual;

/// Short pauses at first, since many updates take seconds, longer ones after a minute. Of a stack of which nothing is known
/// beforehand, an end within the first minute is known after four fifths of a second in the median.
pub struct Pace {
    next: Duration,
    begun: Instant,
    /// Whether the moment from when on a look tells something has been waited for.
    awaited: bool,
    /// Whether somebody has asked for fewer requests, since the last pause.
    slowed: bool,
}

impl Pace {
    const FIRST: Duration = Duration::from_millis(250);
    const FIRST_OF_A_STACK: Duration = Duration::from_millis(750);
    const SOON: Duration = Duration::from_millis(1500);
    const LATER: Duration = Duration::from_secs(5);
    /// In milliseconds.
    const STEP: u64 = 200;

    /// Starts with the shortest pause.
    pub fn new() -> Self {
        Self { next: Self::FIRST, begun: Instant::now(), awaited: false, slowed: false }
    }

    /// Starts as an operation on a stack does, which is never over at once.
    pub fn of_a_stack() -> Self {
        Self { next: Self::FIRST_OF_A_STACK, ..Self::new() }
    }

    /// Makes the next pause at least a long one: somebody has asked for fewer requests.
    pub fn slow_down(&mut self) {
        self.next = Self::LATER;
        self.slowed = true;
    }

    /// Pauses, and makes the next pause longer.
    pub async fn pause(&mut self) {
        let pause = self.take();
        sleep(pause).await;
    }

    /// Pauses between two looks at a stack. Until its like were over, it is looked at now and then only, so that failures
    /// are seen early; and closely from then on.
    ///
    /// All looks fall on fifths of seconds: each account has limits of its own, and a call that has to wake the process
    /// takes twice the CPU of one that follows another.
    pub async fn pause_for_a_stack(&mut self, now: Timestamp, usual: Option<&Usual>) {
        let mut pause = self.take();
        let slowed = std::mem::take(&mut self.slowed);
        let worth_it = usual.filter(|_| !self.awaited && !slowed).and_then(Usual::worth_a_look);
        if let Some(left) = worth_it.and_then(|at| at.checked_sub(self.begun.elapsed())) {
            let pauses = left.div_duration_f64(Self::LATER).ceil();
            self.awaited = pauses <= 1.0;
            pause = left.div_f64(pauses.max(1.0));
            self.next = Self::FIRST;
        }
        let now = now.as_millisecond().unsigned_abs();
        let due = (now + u64::try_from(pause.as_millis()).unwrap_or_default()).next_multiple_of(Self::STEP);
        sleep(Duration::from_millis(due - now)).await;
    }

    fn take(&mut self) -> Duration {
        let pause = self.next.mul_f64(0.75 + fastrand::f64() / 2.0);
        // The pause after a slow one is an ordinary one again.
        let longest = if self.begun.elapsed() < Duration::from_mins(1) { Self::SOON } else { Self::LATER };
        self.next = longest.min(self.next * 2);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks at a stack for so long.
    async fn looks(length: Duration, usual: Option<&Usual>) -> Vec<Duration> {
        let mut looks = vec![];
        let mut pace = Pace::of_a_stack();
        let begun = Instant::now();
        while begun.elapsed() < length {
            let now = Timestamp::UNIX_EPOCH + begun.elapsed();
            pace.pause_for_a_stack(now, usual).await;
            looks.push(begun.elapsed());
        }
        looks
    }

    /// What a look costs, and how late an end is known: by looks at a stack of every length up to an hour.
    #[tokio::test(start_paused = true)]
    async fn ends_are_known_soon_and_looks_are_few() {
        let ends = looks(Duration::from_hours(1), None).await;
        assert!(ends.len() < 850, "{} looks in an hour", ends.len());
        let late = |end: Duration| ends.iter().find(|look| **look >= end).map(|look| look.saturating_sub(end));
        let mut lates: Vec<Duration> =
            (1..600).filter_map(|tenths| late(Duration::from_millis(tenths * 100))).collect();
        lates.sort();
        assert!(lates[lates.len() / 2] < Duration::from_millis(900), "{:?} in the median", lates[lates.len() / 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stack_is_looked_at_when_its_like_were_over() {
        for (seconds, most) in [(3, 1), (20, 4), (21, 5), (62, 13)] {
            let (length, usual) = (Duration::from_secs(seconds), Usual::default());
            (0..40).for_each(|_| usual.learn(length));
            let looks = looks(length, Some(&usual)).await;
            let late = looks.last().unwrap().saturating_sub(length);
            assert!(late <= Duration::from_millis(200), "{late:?}");
            assert!(looks.len() <= most, "{looks:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stack_that_takes_longer_than_its_like_is_looked_at_closely() {
        let usual = Usual::default();
        (0..400).for_each(|number| usual.learn(Duration::from_millis(20_000 + number * 7919 % 10_000)));
        let looks = looks(Duration::from_secs(40), Some(&usual)).await;
        let pauses = |from: u64, to: u64| {
            let within = |pair: &&[Duration]| pair[0].as_secs() >= from && pair[1].as_secs() < to;
            looks.windows(2).filter(within).map(|pair| pair[1].saturating_sub(pair[0])).collect::<Vec<_>>()
        };
        assert!(looks[0].as_secs() >= 4 && pauses(4, 14).iter().all(|pause| pause.as_secs() >= 4), "{looks:?}");
        assert!(pauses(22, 40).iter().all(|pause| pause.as_secs_f64() < 2.1), "{looks:?}");
    }

    /// Also where its like take longer, it is looked at closely only then.
    #[tokio::test(start_paused = true)]
    async fn a_wish_for_fewer_requests_is_granted_and_the_rest_stays_as_it_was() {
        let usual = Usual::default();
        (0..40).for_each(|_| usual.learn(Duration::from_secs(30)));
        for known in [None, Some(&usual)] {
            let begun = Instant::now();
            let mut pace = Pace::of_a_stack();
            pace.slow_down();
            pace.pause_for_a_stack(Timestamp::UNIX_EPOCH, known).await;
            assert!(begun.elapsed().as_secs_f64() > 3.7, "{:?}", begun.elapsed());
            pace.pause_for_a_stack(Timestamp::UNIX_EPOCH, known).await;
            assert_eq!(begun.elapsed().as_secs_f64() > 8.0, known.is_some(), "{:?}", begun.elapsed());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn looks_fall_on_fifths_of_seconds() {
        let looks = looks(Duration::from_mins(2), None).await;
        assert!(looks.iter().all(|look| look.as_millis() % 200 <= 1), "{looks:?}");
    }
}
