//! Reading a stack's events again and again without losing one or taking one twice.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::Timestamp;

use crate::domain::StackEvent;

/// So much of what was read is read again: events that happened at one time need not appear at one time.
const OVERLAP: Duration = Duration::from_secs(10);

/// What of a stack's events is news.
pub struct News {
    since: Option<Timestamp>,
    newest: Option<Timestamp>,
    /// The events within the overlap, which come again.
    told: VecDeque<(Option<Timestamp>, String)>,
}

impl News {
    /// Nothing was read yet; what happened before `since` is of no interest.
    pub fn new(since: Option<Timestamp>) -> Self {
        Self { since, newest: None, told: VecDeque::new() }
    }

    /// Returns from when on events have to be read.
    pub fn from(&self) -> Option<Timestamp> {
        self.newest.and_then(|newest| newest.checked_sub(OVERLAP).ok()).max(self.since)
    }

    /// Returns those of some events, oldest first, that were not there before.
    pub fn take(&mut self, events: Vec<StackEvent>) -> Vec<StackEvent> {
        let is_new = |event: &StackEvent| self.told.iter().all(|(_, id)| *id != event.id);
        let mut new: Vec<StackEvent> = Vec::new();
        for event in events.into_iter().filter(is_new) {
            if new.iter().all(|other| other.id != event.id) {
                new.push(event);
            }
        }
        self.newest = new.iter().filter_map(|event| event.time).max().max(self.newest);
        self.told.extend(new.iter().map(|event| (event.time, event.id.clone())));
        let from = self.from();
        self.told.retain(|(time, _)| time.is_none() || *time >= from);
        new
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn event(number: usize, second: i64) -> StackEvent {
        StackEvent {
            id: number.to_string(),
            time: Timestamp::from_second(second).ok(),
            logical_id: "A".into(),
            physical_id: None,
            resource_type: "AWS::S3::Bucket".into(),
            status: "CREATE_COMPLETE".into(),
            reason: None,
            is_stack: false,
            token: None,
        }
    }

    proptest! {
        /// Each event is told once, whichever share a time, and however late (within the overlap) each appears.
        #[test]
        fn every_event_is_news_once(
            steps in prop::collection::vec((0i64..4, 0i64..9), 0..60),
            looks in prop::collection::vec(0i64..8, 1..40),
        ) {
            // When each happens, and when it can be seen.
            let mut second = 1000;
            let events: Vec<(i64, i64)> = steps
                .into_iter()
                .map(|(pause, late)| {
                    second += pause;
                    (second, second + late)
                })
                .collect();
            let mut news = News::new(Timestamp::from_second(1000).ok());
            let mut told = Vec::new();
            let mut now = 1000;
            for pause in looks.into_iter().chain([10_000]) {
                now += pause;
                let from = news.from();
                let mut seen: Vec<StackEvent> = events
                    .iter()
                    .enumerate()
                    .filter(|(_, (_, visible))| *visible <= now)
                    .map(|(number, (second, _))| event(number, *second))
                    .filter(|event| event.time >= from)
                    .collect();
                seen.sort_by_key(|event| event.time);
                told.extend(news.take(seen).into_iter().map(|event| event.id.parse::<usize>().unwrap()));
            }
            told.sort_unstable();
            prop_assert_eq!(told, (0..events.len()).collect::<Vec<_>>());
        }
    }
}
