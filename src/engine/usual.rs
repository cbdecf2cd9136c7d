//! How long an operation takes, as its like on other targets' stacks took: while none of them was ever over, few looks are
//! enough.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Learns from operations that have ended, as TCP does of its round trips: a smoothed time, and how far from it they
/// usually are. Source: <https://www.rfc-editor.org/rfc/rfc6298#section-2>
#[derive(Debug, Default)]
pub struct Usual(Mutex<Option<Estimate>>);

#[derive(Debug, Clone, Copy)]
struct Estimate {
    smoothed: Duration,
    deviation: Duration,
}

/// Operations that differ by no more than this are alike: one look when nearly all have ended is enough.
const ALIKE: Duration = Duration::from_millis(250);

impl Usual {
    /// Takes notice of an operation that took so long.
    pub fn learn(&self, took: Duration) {
        let mut estimate = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *estimate = Some(match *estimate {
            None => Estimate { smoothed: took, deviation: took / 2 },
            Some(Estimate { smoothed, deviation }) => Estimate {
                deviation: (deviation * 3 + smoothed.abs_diff(took)) / 4,
                smoothed: (smoothed * 7 + took) / 8,
            },
        });
    }

    /// Returns from when on a look tells something: when nearly all have ended where they are alike, otherwise when the
    /// first ones have.
    pub fn worth_a_look(&self) -> Option<Duration> {
        let Estimate { smoothed, deviation } = (*self.0.lock().unwrap_or_else(PoisonError::into_inner))?;
        Some(if deviation <= ALIKE { smoothed + deviation * 2 } else { smoothed.saturating_sub(deviation * 2) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(took: impl Iterator<Item = u64>) -> Option<Duration> {
        let usual = Usual::default();
        took.for_each(|millis| usual.learn(Duration::from_millis(millis)));
        usual.worth_a_look()
    }

    /// So many operations, spread over so many milliseconds from a time on.
    fn spread(from: u64, over: u64) -> impl Iterator<Item = u64> {
        (0..400).map(move |number| from + number * 7919 % over)
    }

    #[test]
    fn one_says_little_and_many_say_when() {
        assert_eq!(after(0..0), None);
        assert_eq!(after([20_000].into_iter()), Some(Duration::ZERO));
        let end = after([20_000; 40].into_iter()).unwrap();
        assert!((20_000..20_010).contains(&end.as_millis()), "{end:?}");
    }

    #[test]
    fn of_what_is_alike_nearly_all_have_ended_by_then() {
        let end = after(spread(20_000, 400)).unwrap();
        let ended = spread(20_000, 400).filter(|time| Duration::from_millis(*time) <= end).count();
        assert!(ended > 320, "{ended} of 400 within {end:?}");
    }

    #[test]
    fn of_what_differs_hardly_any_has_ended_by_then() {
        let end = after(spread(20_000, 10_000)).unwrap();
        let ended = spread(20_000, 10_000).filter(|time| Duration::from_millis(*time) <= end).count();
        assert!(ended < 80 && end > Duration::from_secs(15), "{ended} of 400 within {end:?}");
    }
}
