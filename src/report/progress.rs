//! Moving bars on a terminal: one over all, one line for each target that is in work, never more than fit.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::text::{clean, shorten};
use super::{Reporter, lines};
use crate::domain::lifecycle::State;
use crate::domain::{Masks, TargetId};
use crate::event::{Event, Phase, Timed};

/// Targets beyond so many are counted, not shown; the overall bar says how many are in work.
const SHOWN: usize = 10;

/// Shows bars.
pub struct Progress {
    bars: MultiProgress,
    overall: Option<ProgressBar>,
    uploads: BTreeMap<String, ProgressBar>,
    shown: BTreeMap<TargetId, ProgressBar>,
    /// Targets in work for which there was no line; they get one as soon as one is free.
    waiting: VecDeque<TargetId>,
    /// Those of them that are in work no more.
    left: BTreeSet<TargetId>,
    phase: Phase,
    at_work: usize,
    failed: usize,
    masks: Masks,
}

impl Progress {
    /// Draws on `target`, which is standard error but for tests.
    pub fn new(target: ProgressDrawTarget, masks: Masks) -> Self {
        Self {
            bars: MultiProgress::with_draw_target(target),
            overall: None,
            uploads: BTreeMap::new(),
            shown: BTreeMap::new(),
            waiting: VecDeque::new(),
            left: BTreeSet::new(),
            phase: Phase::Access,
            at_work: 0,
            failed: 0,
            masks,
        }
    }

    fn start(&mut self, phase: Phase, stage: &str, targets: usize) {
        self.finish();
        self.phase = phase;
        if matches!(phase, Phase::Plan | Phase::Apply | Phase::Destroy | Phase::Recover) && targets > 0 {
            let bar = self.bars.add(ProgressBar::new(targets as u64));
            bar.set_style(style("{prefix:.bold} {bar:30.green} {pos}/{len} {msg} {elapsed:.dim}"));
            bar.set_prefix(stage.to_owned());
            bar.enable_steady_tick(Duration::from_millis(250));
            self.overall = Some(bar);
        }
    }

    fn moved(&mut self, target: &TargetId, from: State, to: State) {
        match (from, to) {
            (State::Pending, State::Planning) | (State::Planned, State::Executing) => {
                self.at_work += 1;
                self.show(target);
            }
            // It comes again at the end, and is not done yet.
            (State::Executing | State::Verifying, State::Planned) => self.leave(target),
            (_, State::Planned) => self.end(target),
            (_, State::Verifying) => self.say(target, "verifying"),
            _ => {}
        }
        self.count();
    }

    fn show(&mut self, target: &TargetId) {
        if self.shown.len() >= SHOWN {
            self.waiting.push_back(target.clone());
            return;
        }
        let bar = self.bars.add(ProgressBar::new_spinner());
        bar.set_style(style("  {spinner:.cyan} {prefix:<32} {wide_msg}"));
        bar.set_prefix(shorten(&target.to_string(), 32));
        bar.enable_steady_tick(Duration::from_millis(250));
        self.shown.insert(target.clone(), bar);
    }

    fn say(&self, target: &TargetId, message: &str) {
        if let Some(bar) = self.shown.get(target) {
            bar.set_message(message.to_owned());
        }
    }

    fn end(&mut self, target: &TargetId) {
        self.leave(target);
        if let Some(bar) = &self.overall {
            bar.inc(1);
        }
    }

    fn leave(&mut self, target: &TargetId) {
        self.at_work = self.at_work.saturating_sub(1);
        let Some(bar) = self.shown.remove(target) else {
            self.left.insert(target.clone());
            return;
        };
        bar.finish_and_clear();
        while let Some(next) = self.waiting.pop_front() {
            if !self.left.remove(&next) {
                return self.show(&next);
            }
        }
    }

    fn count(&self) {
        if let Some(bar) = &self.overall {
            let failed = if self.failed > 0 { format!(", {} failed", self.failed) } else { String::new() };
            bar.set_message(format!("{} in work{failed}", self.at_work));
        }
    }

    fn upload(&mut self, key: &str, sent: u64, size: u64) {
        let bars = &self.bars;
        let bar = self.uploads.entry(key.to_owned()).or_insert_with(|| {
            let bar = bars.add(ProgressBar::new(size));
            bar.set_style(style(
                "  {bar:30.green} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {prefix}",
            ));
            bar.set_prefix(key.rsplit('/').next().unwrap_or(key).chars().take(16).collect::<String>());
            bar
        });
        bar.set_position(sent);
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━╸─")
}

impl Reporter for Progress {
    fn event(&mut self, event: &Timed) -> io::Result<()> {
        let event = &event.event;
        match event {
            Event::PhaseStarted { phase, stage, targets } => self.start(*phase, stage, *targets),
            Event::Moved { target, from, to } => self.moved(target, *from, *to),
            Event::Uploading { key, sent, size } => self.upload(key, *sent, *size),
            Event::Stored { key, .. } => {
                if let Some(bar) = self.uploads.remove(key) {
                    bar.finish_and_clear();
                }
            }
            Event::Stack { target, stack_event } => {
                self.say(target, &format!("{} {}", clean(&stack_event.logical_id), clean(&stack_event.status)));
            }
            Event::Finished { target, outcome } => {
                self.failed += usize::from(outcome.is_failure());
                self.end(target);
                self.count();
            }
            Event::PhaseFinished { .. } | Event::Question { .. } => self.finish(),
            _ => {}
        }
        // What succeeds is a number in the bar; what stays on the screen is what somebody has to read.
        let stays = match event {
            Event::Finished { outcome, .. } => outcome.failure().is_some(),
            Event::CheckPassed { .. } | Event::PhaseStarted { .. } => false,
            Event::PhaseFinished { phase, .. } => !matches!(phase, Phase::Plan),
            _ => true,
        };
        match lines::line(event).filter(|_| stays) {
            Some(line) => self.bars.println(self.masks.apply(&line)),
            None => Ok(()),
        }
    }

    fn finish(&mut self) {
        for (_, bar) in std::mem::take(&mut self.shown) {
            bar.finish_and_clear();
        }
        if let Some(bar) = self.overall.take() {
            bar.finish_and_clear();
        }
        self.waiting.clear();
        self.left.clear();
        self.at_work = 0;
        self.failed = 0;
    }
}

#[cfg(test)]
mod tests {
    use indicatif::InMemoryTerm;
    use jiff::Timestamp;

    use super::*;
    use crate::domain::{Failure, Outcome, Region};

    fn target(number: usize) -> TargetId {
        TargetId { tenant: format!("tenant-{number:03}"), region: Region::new("eu-west-1").unwrap() }
    }

    #[test]
    fn four_hundred_targets_take_a_bounded_number_of_lines() {
        let screen = InMemoryTerm::new(40, 100);
        let mut progress = Progress::new(ProgressDrawTarget::term_like(Box::new(screen.clone())), Masks::default());
        let mut tell = |event: Event| progress.event(&Timed { time: Timestamp::UNIX_EPOCH, event }).unwrap();
        tell(Event::PhaseStarted { phase: Phase::Apply, stage: "prod".into(), targets: 400 });
        for number in 0..400 {
            tell(Event::Moved { target: target(number), from: State::Planned, to: State::Executing });
        }
        let outcome = Outcome::Failed(Failure::because("bucket is taken"));
        tell(Event::Finished { target: target(7), outcome });
        // The bars are drawn by a thread of their own.
        let mut shown = screen.contents();
        for _ in 0..200 {
            if shown.contains("1/400") && shown.contains("tenant-010") {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
            shown = screen.contents();
        }
        assert!(shown.lines().count() <= SHOWN + 2, "{shown}");
        assert!(shown.contains("[tenant-007/eu-west-1] failed: bucket is taken"), "{shown}");
        assert!(shown.contains("1/400") && shown.contains("399 in work, 1 failed"), "{shown}");
        assert!(shown.contains("tenant-010"), "the free line goes to the next: {shown}");
    }
}
