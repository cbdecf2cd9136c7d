//! How long an operation takes, as its like on other targets' stacks took: while none of them was ever over, few looks are
//! enough.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Learns from the operations that have ended last, whatever their order: in a wave that began at once, the quick ones end
/// first.
#[derive(Debug, Default)]
pub struct Usual(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    last: VecDeque<Duration>,
    /// What follows from them.
    worth_a_look: Option<Duration>,
}

/// So many of the last ones count.
const LAST: usize = 512;
/// Fewer say nothing.
const ENOUGH: usize = 8;
/// Where nearly all end within so long, one look after that is enough.
const ALIKE: Duration = Duration::from_millis(500);

impl Usual {
    /// Takes notice of an operation that took so long.
    pub fn learn(&self, took: Duration) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.last.truncate(LAST - 1);
        known.last.push_front(took);
        known.worth_a_look = worth_a_look(known.last.iter().copied().collect());
    }

    /// Returns from when on a look tells something: when nine of ten have ended where they are alike, otherwise when one
    /// of ten has.
    pub fn worth_a_look(&self) -> Option<Duration> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).worth_a_look
    }
}

fn worth_a_look(mut took: Vec<Duration>) -> Option<Duration> {
    let tenth = took.len() / 10;
    if took.len() < ENOUGH {
        return None;
    }
    let latest = *took.select_nth_unstable_by(tenth, |one, other| other.cmp(one)).1;
    let soonest = *took.select_nth_unstable(tenth).1;
    Some(if latest.saturating_sub(soonest) <= ALIKE { latest } else { soonest })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(took: impl IntoIterator<Item = u64>) -> Option<u128> {
        let usual = Usual::default();
        took.into_iter().for_each(|millis| usual.learn(Duration::from_millis(millis)));
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

    #[test]
    fn what_was_long_ago_is_forgotten() {
        assert_eq!(after([90_000; LAST].into_iter().chain([20_000; LAST])), Some(20_000));
    }
}
