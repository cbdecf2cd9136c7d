//! How long an operation takes, as its like on other targets' stacks took: while none of them was ever over, few looks are
//! enough. Until that is known, some operations are looked at closely in place of all.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// Learns from the operations that have ended last, whatever their order: in a wave that began at once, the quick ones end
/// first.
#[derive(Debug)]
pub struct Usual {
    known: Mutex<Known>,
    learned: Notify,
    scouts: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct Known {
    done: VecDeque<Duration>,
    /// They say something only where hardly any was done.
    failed: VecDeque<Duration>,
    /// What follows from them.
    worth_a_look: Option<Duration>,
}

/// So many of the last ones count.
const LAST: usize = 512;
/// Fewer say nothing.
const ENOUGH: usize = 8;
/// So many operations are looked at closely while nothing is known: what the others wait for is the first quarter of them.
const SCOUTS: usize = 4 * ENOUGH;
/// Where nearly all end within so long, one look after that is enough.
const ALIKE: Duration = Duration::from_millis(500);

impl Default for Usual {
    fn default() -> Self {
        let scouts = Arc::new(Semaphore::new(SCOUTS));
        Self { known: Mutex::default(), learned: Notify::new(), scouts }
    }
}

impl Usual {
    /// Takes notice of an operation that took so long, and whether it is done or has failed.
    pub fn learn(&self, took: Duration, done: bool) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Known { done: did, failed, worth_a_look } = &mut *known;
        let last = if done { &mut *did } else { &mut *failed };
        last.truncate(LAST - 1);
        last.push_front(took);
        *worth_a_look = worth_it(did, ENOUGH).or_else(|| worth_it(failed, SCOUTS));
        if worth_a_look.is_some() {
            self.learned.notify_waiters();
        }
    }

    /// Returns from when on a look tells something: when nine of ten have ended where they are alike, otherwise when one
    /// of ten has.
    pub fn worth_a_look(&self) -> Option<Duration> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).worth_a_look
    }

    /// Waits until it is known from when on a look tells something.
    pub async fn known(&self) {
        // Told from here on, also what comes before it is waited for.
        let learned = self.learned.notified();
        if self.worth_a_look().is_none() {
            learned.await;
        }
    }

    /// Takes one of the places of those that are looked at closely while nothing is known, if there is one.
    pub fn scout(&self) -> Option<OwnedSemaphorePermit> {
        self.scouts.clone().try_acquire_owned().ok()
    }
}

/// Returns from when on a look tells something, where there are enough to say so.
fn worth_it(last: &VecDeque<Duration>, enough: usize) -> Option<Duration> {
    if last.len() < enough {
        return None;
    }
    let mut took: Vec<Duration> = last.iter().copied().collect();
    let tenth = took.len() / 10;
    let latest = *took.select_nth_unstable_by(tenth, |one, other| other.cmp(one)).1;
    let soonest = *took.select_nth_unstable(tenth).1;
    Some(if latest.saturating_sub(soonest) <= ALIKE { latest } else { soonest })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(took: impl IntoIterator<Item = u64>) -> Option<u128> {
        let usual = Usual::default();
        took.into_iter().for_each(|millis| usual.learn(Duration::from_millis(millis), true));
        usual.worth_a_look().map(|at| at.as_millis())
    }

    #[test]
    fn few_say_nothing() {
        assert_eq!(after([]), None);
        assert_eq!(after([20_000; ENOUGH - 1]), None);
        assert_eq!(after([20_000; ENOUGH]), Some(20_000));
    }

    #[test]
    fn of_what_is_alike_nearly_all_have_ended_by_then() {
        assert_eq!(after(20_000..20_500), Some(20_449));
    }

    #[test]
    fn of_what_differs_hardly_any_has_ended_by_then() {
        assert_eq!(after((20..120).map(|seconds| seconds * 1000)), Some(30_000));
    }

    #[test]
    fn the_order_says_nothing() {
        let sorted: Vec<u64> = (0..400).map(|number| 20_000 + number * 10).collect();
        let ends = after(sorted.clone());
        assert_eq!(ends, Some(20_400));
        assert_eq!(after(sorted.into_iter().rev()), ends);
    }

    /// Many have to fail, and only until enough are done: the failures of a few say nothing about the rest.
    #[test]
    fn where_none_is_done_failures_tell() {
        let usual = Usual::default();
        (1..SCOUTS).for_each(|_| usual.learn(Duration::from_secs(3), false));
        assert_eq!(usual.worth_a_look(), None);
        usual.learn(Duration::from_secs(3), false);
        assert_eq!(usual.worth_a_look(), Some(Duration::from_secs(3)));
        (0..ENOUGH).for_each(|_| usual.learn(Duration::from_mins(1), true));
        (0..ENOUGH).for_each(|_| usual.learn(Duration::from_secs(3), false));
        assert_eq!(usual.worth_a_look(), Some(Duration::from_mins(1)));
    }

    #[test]
    fn what_was_long_ago_is_forgotten() {
        assert_eq!(after([90_000; LAST].into_iter().chain([20_000; LAST])), Some(20_000));
    }
}
