//! A rollout that other machines execute, heard and followed to its end as if it were executed here.

use std::collections::BTreeSet;
use std::future::Future;
use std::time::Duration;

use tokio::time::sleep;

use super::journal::{is_begun, lines, prefix};
use super::lock::{Lock, lock_key};
use super::patience::patiently;
use super::{Engine, RolledOut, Stop};
use crate::domain::{Exit, Failure, Fault, Outcome, Tally, TargetId};
use crate::event::{Event, Phase, Timed};
use crate::plan::{Intent, Plan, TargetContent};

/// How often it is looked what has happened.
const LOOK: Duration = Duration::from_secs(5);

/// What was heard of a rollout so far.
#[derive(Default)]
struct Heard {
    /// The segments of its journal that were read.
    segments: BTreeSet<String>,
    /// The waves that have begun, and those that are watched.
    waves: BTreeSet<String>,
    baking: BTreeSet<String>,
    /// The targets whose end was told.
    ended: BTreeSet<TargetId>,
}

impl Heard {
    /// Returns an event as one of the whole rollout, unless another shard has told the same.
    fn of_all(&mut self, event: Event, plan: &Plan) -> Option<Event> {
        match event {
            Event::WaveStarted { wave, .. } => {
                let number = plan.content.rollout.waves.iter().position(|policy| policy.name == wave);
                let targets = executed(plan).filter(|target| Some(target.wave as usize) == number).count();
                self.waves.insert(wave.clone()).then_some(Event::WaveStarted { wave, targets })
            }
            Event::Baking { wave, seconds } => {
                self.baking.insert(wave.clone()).then_some(Event::Baking { wave, seconds })
            }
            Event::Finished { ref target, .. } => {
                self.ended.insert(target.clone());
                Some(event)
            }
            Event::Moved { .. } | Event::Stack { .. } | Event::CheckPassed { .. } | Event::Notice { .. } => Some(event),
            _ => None,
        }
    }
}

/// Returns the targets in which a plan executes something.
fn executed(plan: &Plan) -> impl Iterator<Item = &TargetContent> {
    plan.content.targets.iter().filter(|target| target.intent.is_executable())
}

impl Engine {
    /// Returns the number that a stage's lock had before so many machines have a plan's, or will have it: it grows with every
    /// rollout of the stage.
    ///
    /// # Errors
    ///
    /// Returns the store's fault.
    pub async fn lock_number(&self, plan: &Plan, of: u32) -> Result<u64, Fault> {
        let key = lock_key(&plan.content.application, &plan.content.stage);
        let Some(lock) = self.record::<Lock>(&key).await? else { return Ok(0) };
        let is_theirs = lock.held && lock.shards.is_some_and(|shards| shards.is_for(plan.digest, of));
        Ok(lock.fence - u64::from(is_theirs && lock.fence > 0))
    }

    /// Follows the rollout in which so many machines execute a plan, begun when the stage's lock had the number `before`,
    /// until `is_over` says that none of them runs any more. None where they have begun nothing. How all of it has ended
    /// is told only where the machines have written that.
    ///
    /// A wish to stop is for whoever says that it is over: what was told until then is still read.
    ///
    /// # Errors
    ///
    /// Returns a fault of the store, or of `is_over`, that lasts: the machines go on.
    pub async fn follow_elsewhere<F: Future<Output = Result<bool, Fault>>>(
        &self,
        plan: &Plan,
        of: u32,
        before: u64,
        is_over: impl Fn() -> F,
    ) -> Result<Option<RolledOut>, Fault> {
        let (_never, stop) = Stop::new();
        let reader = Self { stop, ..self.clone() };
        let content = &plan.content;
        let (phase, stage, targets) = (Phase::Apply, content.stage.clone(), executed(plan).count());
        self.events.emit(Event::PhaseStarted { phase, stage, targets });
        let mut rollout = None;
        let mut heard = Heard::default();
        loop {
            // Asked first, so that what was told before the end is heard.
            let over = patiently(&reader.stop, &is_over).await?;
            if rollout.is_none() {
                rollout = reader.begun_elsewhere(plan, of, before).await?;
            }
            if let Some(rollout) = &rollout {
                reader.hear_more(plan, rollout, &mut heard).await?;
            }
            if over {
                break;
            }
            sleep(LOOK).await;
        }
        let Some(rollout) = rollout else { return Ok(None) };
        let done = reader.end_elsewhere(plan, rollout).await?;
        // The end of a machine's journal may be missing, where the store has failed it, and be in the record all the same.
        let recorded = done.all.iter().flat_map(|(finished, _)| finished);
        let is_told =
            |target, outcome: &Outcome| heard.ended.contains(target) || matches!(outcome, Outcome::Pinned { .. });
        for (target, outcome) in recorded.filter(|(target, outcome)| !is_told(target, outcome)) {
            self.events.emit(Event::Finished { target: target.clone(), outcome: outcome.clone() });
        }
        let tally = Tally::of(done.finished.iter().map(|(_, outcome)| outcome));
        self.events.emit(Event::PhaseFinished { phase: Phase::Apply, stage: content.stage.clone(), tally });
        Ok(Some(done))
    }

    /// Returns the rollout's name, once the first machine has the lock and has written what it is about to do.
    async fn begun_elsewhere(&self, plan: &Plan, of: u32, before: u64) -> Result<Option<String>, Fault> {
        let content = &plan.content;
        let key = lock_key(&content.application, &content.stage);
        let Some(lock) = patiently(&self.stop, || self.record::<Lock>(&key)).await? else { return Ok(None) };
        let is_newer = lock.held || lock.fence > before;
        let shards = lock.shards.filter(|shards| is_newer && shards.is_for(plan.digest, of));
        let Some(shards) = shards else { return Ok(None) };
        let folder = prefix(&content.application, &shards.rollout);
        let keys = patiently(&self.stop, || self.store.list(&folder)).await?;
        if !keys.iter().any(|key| is_begun(key)) {
            return Ok(None);
        }
        let (rollout, plan, fence) = (shards.rollout, plan.digest, lock.fence);
        self.events.emit(Event::RolloutStarted { rollout: rollout.clone(), plan, fence });
        Ok(Some(rollout))
    }

    /// Tells what was written into the journal since it was read last.
    async fn hear_more(&self, plan: &Plan, rollout: &str, heard: &mut Heard) -> Result<(), Fault> {
        let folder = prefix(&plan.content.application, rollout);
        let mut keys = patiently(&self.stop, || self.store.list(&folder)).await?;
        keys.retain(|key| !heard.segments.contains(key));
        let mut told: Vec<Timed> = Vec::new();
        for (key, bytes) in self.segments(keys).await? {
            told.extend(lines(&key, &bytes)?);
            heard.segments.insert(key);
        }
        told.sort_by_key(|one| one.time);
        for Timed { time, event } in told {
            if let Some(event) = heard.of_all(event, plan) {
                self.events.pass_on(Timed { time, event });
            }
        }
        Ok(())
    }

    /// Returns how a rollout has ended: as its last machine has written it; or, where one of them did not come to its end,
    /// as far as the journal tells.
    async fn end_elsewhere(&self, plan: &Plan, rollout: String) -> Result<RolledOut, Fault> {
        let application = &plan.content.application;
        let tolerated = plan.content.tolerated();
        if let Some(record) = patiently(&self.stop, || self.rollout(application, &rollout)).await? {
            let finished: Vec<_> = record.targets.into_iter().map(|end| (end.target, end.outcome)).collect();
            // An alarm is in no outcome.
            let known = [Exit::Done, Exit::Failed, Exit::Tolerated, Exit::Detached];
            let exit = known.into_iter().find(|exit| Some(*exit as u8) == record.exit);
            let exit = exit.unwrap_or_else(|| Exit::of(finished.iter().map(|(_, outcome)| outcome), tolerated));
            let all = Some((finished.clone(), exit));
            return Ok(RolledOut { rollout: Some(rollout), finished, exit, all });
        }
        let history = self.history(application, &rollout).await?;
        let outcomes = history.as_ref().map(|history| history.outcomes.clone()).unwrap_or_default();
        let begun: BTreeSet<_> = history.iter().flat_map(|history| &history.prepared).map(|one| &one.target).collect();
        let meant = plan.content.targets.iter().filter(|target| !matches!(target.intent, Intent::Pinned));
        let finished: Vec<_> = meant
            .map(|target| {
                let outcome = outcomes.get(&target.target).cloned().unwrap_or_else(|| {
                    let hint = format!("the same command goes on with it, or `tenantry resume {rollout}`");
                    if begun.contains(&target.target) {
                        Outcome::Detached(Failure::because("nothing was heard of its end").hint(hint))
                    } else {
                        Outcome::Skipped(Failure::because("nothing was heard of its beginning").hint(hint))
                    }
                });
                (target.target.clone(), outcome)
            })
            .collect();
        // Without a record nothing is over, whatever the outcomes are.
        let exit = match Exit::of(finished.iter().map(|(_, outcome)| outcome), tolerated) {
            Exit::Done | Exit::Tolerated => Exit::Detached,
            other => other,
        };
        Ok(RolledOut { rollout: Some(rollout), finished, exit, all: None })
    }
}
