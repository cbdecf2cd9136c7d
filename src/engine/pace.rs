//! The pauses between looks at something that takes its time.

use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep, timeout};

use super::usual::Usual;

/// Short pauses at first, since many updates take seconds, longer ones after a minute. The end of a stack that is looked at
/// closely is known after four fifths of a second in the median, within the first minute.
pub struct Pace {
    next: Duration,
    begun: Instant,
    /// Whether the moment from when on a look tells something has been waited for.
    awaited: bool,
    /// Whether somebody has asked for fewer requests, since the last pause.
    slowed: bool,
    /// Its place among those that tell the others how long they take.
    scout: Option<OwnedSemaphorePermit>,
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
        Self { next: Self::FIRST, begun: Instant::now(), awaited: false, slowed: false, scout: None }
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
    /// are seen early; and closely from then on. While nobody knows when that is, some are looked at closely, and the
    /// others now and then until those have told.
    ///
    /// All looks fall on fifths of seconds: each account has limits of its own, and a call that has to wake the process
    /// takes twice the CPU of one that follows another.
    pub async fn pause_for_a_stack(&mut self, now: Timestamp, usual: Option<&Usual>) {
        let begun = Instant::now();
        let slowed = std::mem::take(&mut self.slowed);
        let usual = usual.filter(|_| !slowed);
        let mut was_told = false;
        if let Some(usual) = usual
            && usual.worth_a_look().is_none()
            && !self.is_scout(usual)
        {
            let longest = aligned(now, about(Self::LATER));
            was_told = timeout(longest, usual.known()).await.is_ok();
            if !was_told {
                return;
            }
        }
        let left = usual.and_then(Usual::worth_a_look).and_then(|at| at.checked_sub(self.begun.elapsed()));
        // What is learned later moves that moment by little each time, and only counts where it is by much.
        let left = left.filter(|left| !self.awaited || *left > Self::LATER);
        let pause = if let Some(left) = left {
            let most = if was_told { Self::LATER.saturating_sub(begun.elapsed()) } else { Self::LATER };
            self.awaited = left <= most;
            self.next = Self::FIRST;
            left.div_f64(left.div_duration_f64(Self::LATER).ceil().max(1.0)).min(most)
        } else if was_told {
            // It is high time, but not for all in the same moment.
            self.awaited = true;
            self.next = Self::FIRST;
            Duration::from_millis(fastrand::u64(..2 * Self::STEP))
        } else {
            self.take()
        };
        sleep(aligned(now + begun.elapsed(), pause)).await;
    }

    /// Tells whether the stack is one of those that are looked at closely while nothing is known.
    fn is_scout(&mut self, usual: &Usual) -> bool {
        self.scout = self.scout.take().or_else(|| usual.scout());
        self.scout.is_some()
    }

    fn take(&mut self) -> Duration {
        let pause = about(self.next);
        // The pause after a slow one is an ordinary one again.
        let longest = if self.begun.elapsed() < Duration::from_mins(1) { Self::SOON } else { Self::LATER };
        self.next = longest.min(self.next * 2);
        pause
    }
}

/// Returns a pause that is a quarter shorter or longer at most.
fn about(pause: Duration) -> Duration {
    pause.mul_f64(0.75 + fastrand::f64() / 2.0)
}

/// Returns a pause that ends on a step of the clock.
fn aligned(now: Timestamp, pause: Duration) -> Duration {
    let now = now.as_millisecond().unsigned_abs();
    let due = (now + u64::try_from(pause.as_millis()).unwrap_or_default()).next_multiple_of(Pace::STEP);
    Duration::from_millis(due - now)
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
            (0..40).for_each(|_| usual.learn(length, true));
            let looks = looks(length, Some(&usual)).await;
            let late = looks.last().unwrap().saturating_sub(length);
            assert!(late <= Duration::from_millis(200), "{late:?}");
            assert!(looks.len() <= most, "{looks:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stack_that_takes_longer_than_its_like_is_looked_at_closely() {
        let usual = Usual::default();
        (0..400).for_each(|number| usual.learn(Duration::from_millis(20_000 + number * 7919 % 10_000), true));
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
        (0..40).for_each(|_| usual.learn(Duration::from_secs(30), true));
        for known in [None, Some(&usual)] {
            let begun = Instant::now();
            let mut pace = Pace::of_a_stack();
            pace.slow_down();
            pace.pause_for_a_stack(Timestamp::UNIX_EPOCH, known).await;
            assert!(begun.elapsed().as_secs_f64() > 3.7, "{:?}", begun.elapsed());
            let begun = Instant::now();
            pace.pause_for_a_stack(Timestamp::UNIX_EPOCH, known).await;
            assert_eq!(begun.elapsed().as_secs_f64() > 3.0, known.is_some(), "{:?}", begun.elapsed());
        }
    }

    /// A wave that begins at once, of stacks of which nothing is known.
    #[tokio::test(start_paused = true)]
    async fn while_nothing_is_known_some_are_looked_at_closely_in_place_of_all() {
        let usual = std::sync::Arc::new(Usual::default());
        let length = Duration::from_secs(20);
        let followed = (0..256).map(|_| {
            let usual = usual.clone();
            tokio::spawn(async move {
                let (mut pace, begun, mut looks) = (Pace::of_a_stack(), Instant::now(), 0);
                while begun.elapsed() < length {
                    pace.pause_for_a_stack(Timestamp::UNIX_EPOCH + begun.elapsed(), Some(&usual)).await;
                    looks += 1;
                }
                usual.learn(length, true);
                (looks, begun.elapsed().saturating_sub(length))
            })
        });
        let mut ends = Vec::new();
        for end in followed.collect::<Vec<_>>() {
            ends.push(end.await.unwrap());
        }
        let looks: u32 = ends.iter().map(|(looks, _)| looks).sum();
        assert!(looks < 32 * 18 + 224 * 7, "{looks} looks");
        ends.sort_by_key(|(_, late)| *late);
        assert!(ends[128].1 < Duration::from_secs(1) && ends[255].1 < Duration::from_secs(2), "{:?}", ends[255]);
    }

    /// Where the first that end are quick failures, the others are not looked at closely until their own end.
    #[tokio::test(start_paused = true)]
    async fn more_is_learned_after_the_first_have_told() {
        let usual = std::sync::Arc::new(Usual::default());
        let _scouts: Vec<_> = std::iter::from_fn(|| usual.scout()).collect();
        let learning = usual.clone();
        tokio::spawn(async move {
            for (after, took, done) in [(3, 3, false), (1, 50, true)] {
                sleep(Duration::from_secs(after)).await;
                (0..32).for_each(|_| learning.learn(Duration::from_secs(took), done));
            }
        });
        let looks = looks(Duration::from_secs(50), Some(&usual)).await;
        assert!(looks.len() < 17 && looks[0].as_secs_f64() < 4.0, "{looks:?}");
        assert!(looks.last().unwrap().as_secs_f64() < 50.5, "{looks:?}");
    }

    /// Nor does it keep the others from being looked at that those which are looked at closely never end.
    #[tokio::test(start_paused = true)]
    async fn whoever_is_not_looked_at_closely_is_looked_at_all_the_same() {
        let usual = Usual::default();
        let _scouts: Vec<_> = std::iter::from_fn(|| usual.scout()).collect();
        let looks = looks(Duration::from_mins(1), Some(&usual)).await;
        assert!(looks.len() > 9 && looks.len() < 17, "{looks:?}");
        assert!(looks.iter().all(|look| look.as_millis() % 200 <= 1), "{looks:?}");
    }

    /// Stacks that began in the same moment are not all looked at in the same moments, early or late.
    #[tokio::test(start_paused = true)]
    async fn looks_are_spread() {
        for (from, longest) in [(0, Pace::SOON), (65, Pace::LATER)] {
            let mut pauses = std::collections::BTreeSet::new();
            for _ in 0..20 {
                let looks = looks(Duration::from_mins(2), None).await;
                let late = looks.windows(2).filter(|pair| pair[0].as_secs() >= from).take(10);
                pauses.extend(late.map(|pair| pair[1].saturating_sub(pair[0]).as_millis() / 10));
            }
            assert!(pauses.len() > 3, "{pauses:?}");
            assert!(pauses.last().unwrap() * 10 <= longest.as_millis() * 5 / 4 + 201, "{pauses:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn looks_fall_on_fifths_of_seconds() {
        let looks = looks(Duration::from_mins(2), None).await;
        assert!(looks.iter().all(|look| look.as_millis() % 200 <= 1), "{looks:?}");
    }
}
