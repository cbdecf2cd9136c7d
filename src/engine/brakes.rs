//! What stops a rollout: more failures than tolerated, or the same failure again and again.

use std::collections::BTreeMap;

use super::window::Flow;
use crate::domain::{ConcurrencyMode, OnFailure, Outcome, TargetId, Wave};
use crate::plan::{Content, Intent, TargetContent, signature};

/// Returns the wave and the reason of a target's end, where that counts as a failure.
pub fn failure(target: Option<&TargetContent>, outcome: &Outcome) -> Option<(Option<u32>, Option<String>)> {
    // What can be seen no longer may have failed, and a wave whose targets could not be started has shown nothing.
    if !outcome.is_failure() && !matches!(outcome, Outcome::Detached(_) | Outcome::Skipped(_)) {
        return None;
    }
    let sign = |failure| target.map(|target| signature(target, failure)).unwrap_or_default();
    Some((target.map(|target| target.wave), outcome.failure().map(sign)))
}

/// Counts failures over a rollout and says whether to go on.
pub struct Brakes<'a> {
    content: &'a Content,
    limit: usize,
    failures: usize,
    /// Failures that a wave may have by itself, and those that it has; also from before an interruption.
    waves: BTreeMap<u32, (usize, usize)>,
    signatures: BTreeMap<String, usize>,
    held: Option<String>,
    alarm: Option<String>,
}

impl<'a> Brakes<'a> {
    /// Nothing has failed yet.
    pub fn new(content: &'a Content) -> Self {
        let limit = content.rollout.max_concurrency.of(content.targets.len()).max(1);
        let may = |(number, wave): (u32, &Wave)| {
            let members = content.targets.iter().filter(|target| target.wave == number);
            let size = members.filter(|target| target.intent != Intent::Pinned).count();
            wave.failure_tolerance.map(|tolerance| (number, (tolerance.of(size), 0)))
        };
        let waves = (0..).zip(&content.rollout.waves).filter_map(may).collect();
        Self { content, limit, failures: 0, waves, signatures: BTreeMap::new(), held: None, alarm: None }
    }

    /// Counts how a target has ended, and says how many others may be in work from now on.
    pub fn seen(&mut self, target: &TargetId, outcome: &Outcome) -> Flow {
        if let Some((wave, reason)) = failure(self.content.target(target), outcome) {
            self.count(wave, reason);
        }
        self.flow()
    }

    /// Counts a failure, in whatever shard it was.
    pub fn count(&mut self, wave: Option<u32>, reason: Option<String>) {
        self.failures += 1;
        let wave = wave.and_then(|wave| self.waves.get_mut(&wave)).map(|(may, failures)| {
            *failures += 1;
            (*may, *failures)
        });
        self.judge(wave, reason);
    }

    /// Lets fewer be in work at a time: others have their share.
    pub fn share(&mut self, of: impl FnOnce(usize) -> usize) {
        self.limit = of(self.limit);
    }

    /// Starts nothing more, for a reason that is not in these targets.
    pub fn hold(&mut self, why: String) {
        self.held.get_or_insert(why);
    }

    /// An alarm has gone off: nothing more is started.
    pub fn alarm_raised(&mut self, why: String) {
        self.held.get_or_insert_with(|| why.clone());
        self.alarm.get_or_insert(why);
    }

    /// Returns the alarm that has stopped the rollout, if one has.
    pub fn alarm(&self) -> Option<&str> {
        self.alarm.as_deref()
    }

    /// Takes back a failure that was mended by trying again.
    pub fn mended(&mut self) {
        self.failures = self.failures.saturating_sub(1);
    }

    fn judge(&mut self, wave: Option<(usize, usize)>, reason: Option<String>) {
        let rollout = &self.content.rollout;
        let tolerated = self.content.tolerated();
        let hold = |why: String| if self.held.is_none() { Some(why) } else { None };
        let mut why = None;
        if rollout.on_failure == OnFailure::Stop {
            if self.failures > tolerated {
                why = hold(format!("{} failed, {tolerated} may", self.failures));
            }
            if let Some((may, failures)) = wave.filter(|(may, failures)| failures > may) {
                why = hold(format!("{failures} of the wave failed, {may} may"));
            }
        }
        if let (Some(most), Some(reason)) = (rollout.breaker, reason) {
            let count = self.signatures.entry(reason.clone()).or_default();
            *count += 1;
            if *count >= most as usize && self.held.is_none() {
                why = Some(format!("{count} failed alike: {reason}"));
            }
        }
        self.held = self.held.take().or(why);
    }

    /// Returns how many targets may be in work.
    pub fn limit(&self) -> usize {
        match self.content.rollout.concurrency_mode {
            ConcurrencyMode::Soft => self.limit,
            ConcurrencyMode::Strict => {
                self.limit.min((self.content.tolerated() + 1).saturating_sub(self.failures).max(1))
            }
        }
    }

    fn flow(&self) -> Flow {
        if self.held.is_some() { Flow::Hold } else { Flow::AtMost(self.limit()) }
    }

    /// Says why nothing more is started, if so.
    pub fn held(&self) -> Option<&str> {
        self.held.as_deref()
    }
}
