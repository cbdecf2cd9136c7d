//! What the shards of a rollout tell each other, through the store: what has failed, which waves are over, who runs and who has
//! ended. All of it is written once, under keys that say it, so that one listing tells everything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use super::brakes::{self, Brakes};
use super::patience::patiently;
use super::plan::left_out;
use super::records::written;
use super::{Engine, Stop};
use crate::domain::{Digest, Fault, Outcome, Shard, TargetId};
use crate::plan::{Content, Intent, Plan, Secrets};

/// For how long what the others have come to is taken as known.
const FRESH: Duration = Duration::from_secs(1);
/// How often it is looked whether the others have ended a wave.
const LOOK: Duration = Duration::from_secs(5);
/// How often it is told that they have not.
const TELL: Duration = Duration::from_mins(5);

/// One process that executes a shard of a rollout, among others.
pub struct Together {
    shard: Shard,
    /// The number of the shard's own lock, which grows with every process that executes it.
    number: u64,
    plan: Arc<Plan>,
    secrets: Secrets,
    prefix: String,
    /// The shards that have something to execute in each wave.
    waves: BTreeMap<u32, BTreeSet<u32>>,
    /// Whether a failure could not be told: then nothing more is started here, and no wave is told to be over.
    untold: AtomicBool,
    known: Mutex<Option<(Instant, Arc<Known>)>>,
}

/// What a failure's or an alarm's record says, for people too: its key has only what is counted.
#[derive(Debug, Serialize, Deserialize)]
struct Told {
    what: String,
    reason: Option<String>,
}

/// What all shards have told.
#[derive(Debug, Default)]
struct Known {
    /// By target: the wave, what tells reasons apart, and whether it counts in the answer too. None twice, and none that was
    /// mended.
    failures: BTreeMap<String, (Option<u32>, Option<String>, bool)>,
    alarm: Option<String>,
    over: BTreeSet<(u32, u32)>,
    /// The newest process of each shard.
    running: BTreeMap<u32, u64>,
    ended: BTreeSet<(u32, u64)>,
    refused: BTreeSet<(u32, u64)>,
    /// Why nothing more is started, if so.
    held: Option<String>,
}

impl Known {
    fn read(prefix: &str, keys: &[String]) -> Self {
        let mut known = Self::default();
        let mut mended = BTreeSet::new();
        for key in keys.iter().filter_map(|key| key.strip_prefix(prefix)) {
            let words: Vec<&str> = key.split('/').collect();
            let process = |shard: &str, number: &str| Some((shard.parse::<u32>().ok()?, number.parse::<u64>().ok()?));
            match words.as_slice() {
                [kind @ ("failed" | "missed"), target, wave, reason] => {
                    let reason = (*reason != "-").then(|| (*reason).to_owned());
                    let failure = (wave.parse().ok(), reason, *kind == "failed");
                    known.failures.entry((*target).to_owned()).or_insert(failure);
                }
                ["mended", target] => _ = mended.insert((*target).to_owned()),
                ["alarm", alarm] => known.alarm = Some((*alarm).to_owned()),
                ["over", wave, shard] => known.over.extend(wave.parse().ok().zip(shard.parse().ok())),
                ["running", shard, number] => {
                    if let Some((shard, number)) = process(shard, number) {
                        let newest = known.running.entry(shard).or_default();
                        *newest = number.max(*newest);
                    }
                }
                ["ended", shard, number] => known.ended.extend(process(shard, number)),
                ["refused", shard, number] => known.refused.extend(process(shard, number)),
                _ => {}
            }
        }
        known.failures.retain(|target, _| !mended.contains(target));
        known
    }

    /// Returns the newest process of a shard, where that has ended.
    fn end_of(&self, shard: u32) -> Option<(u32, u64)> {
        self.running.get(&shard).map(|number| (shard, *number)).filter(|process| self.ended.contains(process))
    }

    /// Tells whether a shard executes nothing more, unless it is started again.
    fn is_gone(&self, shard: u32) -> bool {
        let newest = self.running.get(&shard).map(|number| (shard, *number));
        newest.is_some_and(|process| self.ended.contains(&process) || self.refused.contains(&process))
    }
}

/// Names a target or a reason within a key.
fn short(text: &str) -> String {
    Digest::of(text).short()
}

fn unread(fault: &Fault) -> String {
    format!("what the other shards have come to cannot be read: {fault}")
}

impl Together {
    pub(super) fn new(shard: Shard, number: u64, plan: &Arc<Plan>, secrets: &Secrets, rollout: &str) -> Self {
        let Content { application, targets, .. } = &plan.content;
        let mut waves: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
        for target in targets.iter().filter(|target| !matches!(target.intent, Intent::Excluded | Intent::Pinned)) {
            waves.entry(target.wave).or_default().insert(Shard::with(&target.target, shard.of).number);
        }
        Self {
            shard,
            number,
            plan: plan.clone(),
            secrets: secrets.clone(),
            prefix: format!("tenantry/{application}/rollouts/{rollout}.shards/"),
            waves,
            untold: AtomicBool::new(false),
            known: Mutex::default(),
        }
    }

    /// Returns what tells this process's segments of the journal from those of others.
    pub(super) fn place(&self) -> String {
        format!("{}{:06}-", self.shard_place(), self.number)
    }

    /// Returns what tells the shard's segments of the journal from those of others.
    pub(super) fn shard_place(&self) -> String {
        format!("{:03}-", self.shard.number)
    }

    /// Returns this shard's share of what may be in work at a time.
    pub(super) fn share(&self, limit: usize) -> usize {
        self.shard.share(limit).max(1)
    }

    /// Tells whether some wave comes after one, in whatever shard.
    pub(super) fn goes_on_after(&self, wave: u32) -> bool {
        self.waves.keys().any(|later| *later > wave)
    }

    /// Tells whether a wave was told to be over here already.
    pub(super) async fn has_told_over(&self, engine: &Engine, wave: u32) -> bool {
        let known = self.look(engine, FRESH).await;
        known.is_ok_and(|known| known.over.contains(&(wave, self.shard.number)))
    }

    async fn look(&self, engine: &Engine, age: Duration) -> Result<Arc<Known>, Fault> {
        let mut known = self.known.lock().await;
        if let Some((at, found)) = known.as_ref()
            && at.elapsed() < age
        {
            return Ok(found.clone());
        }
        let at = Instant::now();
        let keys = patiently(&engine.stop, || engine.store.list(&self.prefix)).await?;
        let mut found = Known::read(&self.prefix, &keys);
        found.held = self.weigh(engine, &found).await;
        let found = Arc::new(found);
        *known = Some((at, found.clone()));
        Ok(found)
    }

    /// Says why nothing more is started, if what all shards together have come to is the reason.
    async fn weigh(&self, engine: &Engine, known: &Known) -> Option<String> {
        let content = &self.plan.content;
        let mut brakes = Brakes::new(content);
        // What could not be planned counts from the beginning, wherever it is.
        for target in content.targets.iter().filter(|target| target.intent == Intent::Excluded) {
            brakes.seen(&target.target, &left_out());
        }
        for (wave, reason, _) in known.failures.values() {
            brakes.count(*wave, reason.clone());
        }
        let reason = async |key: String| {
            let told = engine.record::<Told>(&format!("{}{key}", self.prefix)).await.ok().flatten();
            told.and_then(|told| told.reason)
        };
        if let Some(alarm) = &known.alarm {
            let why = reason(format!("alarm/{alarm}")).await;
            return Some(why.unwrap_or_else(|| "an alarm has gone off".to_owned()));
        }
        let mut why = brakes.held()?.to_owned();
        for (target, (wave, signature, counts)) in &known.failures {
            if let Some(signature) = signature.as_ref().filter(|signature| why.contains(signature.as_str())) {
                let told = reason(failure_key(*counts, target, *wave, Some(signature))).await;
                why = why.replace(signature.as_str(), told.as_deref().unwrap_or("?"));
                break;
            }
        }
        Some(format!("{why}, over all shards"))
    }

    async fn tell(&self, engine: &Engine, key: &str, record: &impl Serialize) -> Result<(), Fault> {
        let key = format!("{}{key}", self.prefix);
        // What has happened is told also by a run that was asked to stop.
        let (_handle, never) = Stop::new();
        patiently(&never, || engine.store.put_once(&key, written(record))).await.map(drop)
    }

    /// Says why nothing more is started, if what all shards together have come to is the reason.
    pub(super) async fn why_not(&self, engine: &Engine) -> Option<String> {
        if self.untold.load(Ordering::Relaxed) {
            return Some("a failure could not be told to the other shards".to_owned());
        }
        match self.look(engine, FRESH).await {
            Ok(known) => known.held.clone(),
            // Safety rule 5: what cannot be read opens no way.
            Err(fault) => Some(unread(&fault)),
        }
    }

    /// Tells the others how a target has ended, where that counts, or where it has failed before and is well now.
    pub(super) async fn ended(&self, engine: &Engine, target: &TargetId, outcome: &Outcome) {
        let place = short(&target.to_string());
        if matches!(outcome, Outcome::Deployed | Outcome::Unchanged) {
            let known = self.look(engine, FRESH).await;
            if known.is_ok_and(|known| known.failures.contains_key(&place)) {
                let told = self.tell(engine, &format!("mended/{place}"), target).await;
                self.must(engine, told, &format!("{target} is well now"));
            }
            return;
        }
        // That a run was stopped is no matter of the others'.
        let counts = outcome.is_failure() || engine.halted().is_none();
        let Some(content) =
            self.plan.content.target(target).filter(|content| counts && content.intent != Intent::Excluded)
        else {
            return;
        };
        let Some((wave, reason)) = brakes::failure(Some(content), outcome) else { return };
        // What a tenant's stack says can repeat a parameter, and be long.
        let reason = reason.map(|reason| self.secrets.cover_known(&reason));
        let signature = reason.as_deref().map(short);
        let key = failure_key(outcome.is_failure(), &place, wave, signature.as_deref());
        let told = self.tell(engine, &key, &Told { what: target.to_string(), reason }).await;
        self.must(engine, told, &format!("{target} has failed"));
    }

    /// Tells the others that an alarm has stopped the rollout.
    pub(super) async fn alarm(&self, engine: &Engine, why: &str) {
        let why = self.secrets.cover_known(why);
        let told = Told { what: self.shard.to_string(), reason: Some(why.clone()) };
        let told = self.tell(engine, &format!("alarm/{}", short(&why)), &told).await;
        self.must(engine, told, "an alarm has gone off");
    }

    fn must(&self, engine: &Engine, told: Result<(), Fault>, what: &str) {
        if let Err(fault) = told {
            self.untold.store(true, Ordering::Relaxed);
            engine.events.notice(format!("the other shards could not be told that {what}: {fault}"));
        }
    }

    /// Waits until every wave before one is over in all shards. Says why it may not begin, where they do not come to that.
    ///
    /// A shard that runs is waited for as long as it does; one that was not started, for a target's deadline.
    pub(super) async fn before(&self, engine: &Engine, wave: u32) -> Option<String> {
        let begun = Instant::now();
        let deadline = self.plan.content.rollout.deadline;
        let mut told: Option<Instant> = None;
        loop {
            if let Some(why) = self.why_not(engine).await {
                return Some(why);
            }
            let known = match self.look(engine, FRESH).await {
                Ok(known) => known,
                Err(fault) => return Some(unread(&fault)),
            };
            let open = |(earlier, shards): (&u32, &BTreeSet<u32>)| {
                let open: Vec<u32> =
                    shards.iter().copied().filter(|shard| !known.over.contains(&(*earlier, *shard))).collect();
                (!open.is_empty()).then_some((*earlier, open))
            };
            let (earlier, shards) = self.waves.range(..wave).find_map(open)?;
            let never = |shard: &u32| !known.running.contains_key(shard) && begun.elapsed() > deadline;
            let gone: Vec<u32> = shards.iter().copied().filter(|shard| known.is_gone(*shard) || never(shard)).collect();
            if !gone.is_empty() || engine.halted().is_some() {
                let which = if gone.is_empty() { &shards } else { &gone };
                return Some(format!("{} is not over", self.wave_in(earlier, which)));
            }
            if told.is_none_or(|told| told.elapsed() >= TELL) {
                told = Some(Instant::now());
                engine.events.notice(format!("waiting for {}", self.wave_in(earlier, &shards)));
            }
            tokio::select! {
                biased;
                () = sleep(LOOK) => {}
                () = engine.stop.requested() => {}
            }
        }
    }

    fn wave_in(&self, number: u32, shards: &[u32]) -> String {
        let name = self.plan.content.rollout.waves.get(number as usize).map(|wave| wave.name.as_str());
        let list: Vec<String> = shards.iter().map(u32::to_string).collect();
        format!("wave {} in shard {} of {}", name.unwrap_or("?"), list.join(", "), self.shard.of)
    }

    /// Tells the others that all waves before one are over here.
    pub(super) async fn over_before(&self, engine: &Engine, wave: u32) {
        if self.untold.load(Ordering::Relaxed) {
            return;
        }
        for (earlier, _) in self.waves.range(..wave).filter(|(_, shards)| shards.contains(&self.shard.number)) {
            let key = format!("over/{earlier:03}/{:03}", self.shard.number);
            let told = self.tell(engine, &key, &self.shard.to_string()).await;
            self.must(engine, told, "a wave is over");
        }
    }

    /// Tells the others that this process begins to execute its shard.
    pub(super) async fn running(&self, engine: &Engine) -> Result<(), Fault> {
        self.tell(engine, &self.process("running"), &engine.by).await
    }

    /// Tells the others that this process executes nothing.
    pub(super) async fn refused(&self, engine: &Engine) {
        let told = self.tell(engine, &self.process("refused"), &engine.by).await;
        self.must(engine, told, "this one executes nothing");
    }

    fn process(&self, kind: &str) -> String {
        format!("{kind}/{:03}/{:06}", self.shard.number, self.number)
    }

    /// Returns how many have failed for good, over all shards.
    pub(super) async fn failures(&self, engine: &Engine) -> Result<usize, Fault> {
        let known = self.look(engine, Duration::ZERO).await?;
        let excluded = self.plan.content.targets.iter().filter(|target| target.intent == Intent::Excluded).count();
        Ok(known.failures.values().filter(|(_, _, counts)| *counts).count() + excluded)
    }

    /// Keeps how this process has ended, and returns the keys of all ends where every shard has ended.
    pub(super) async fn end(&self, engine: &Engine, end: &impl Serialize) -> Result<Option<Vec<String>>, Fault> {
        self.tell(engine, &self.process("ended"), end).await?;
        let known = self.look(engine, Duration::ZERO).await?;
        let targets = &self.plan.content.targets;
        let members: BTreeSet<u32> =
            targets.iter().map(|target| Shard::with(&target.target, self.shard.of).number).collect();
        let ends: Vec<(u32, u64)> = members.iter().filter_map(|shard| known.end_of(*shard)).collect();
        let key = |(shard, number): (u32, u64)| format!("{}ended/{shard:03}/{number:06}", self.prefix);
        Ok((ends.len() == members.len()).then(|| ends.into_iter().map(key).collect()))
    }
}

fn failure_key(counts: bool, target: &str, wave: Option<u32>, signature: Option<&str>) -> String {
    let kind = if counts { "failed" } else { "missed" };
    let wave = wave.map_or_else(|| "-".to_owned(), |wave| format!("{wave:03}"));
    format!("{kind}/{target}/{wave}/{}", signature.unwrap_or("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(keys: &[&str]) -> Known {
        let keys: Vec<String> = keys.iter().map(|key| format!("p/{key}")).collect();
        Known::read("p/", &keys)
    }

    #[test]
    fn a_target_counts_once_and_not_where_it_was_mended() {
        let known = known(&[
            "failed/a/000/x",
            "failed/a/000/y",
            "failed/b/001/-",
            "missed/c/001/x",
            "mended/b",
            "something/else",
        ]);
        let failures: Vec<_> = known.failures.into_iter().collect();
        let x = || Some("x".to_owned());
        assert_eq!(failures, [("a".into(), (Some(0), x(), true)), ("c".into(), (Some(1), x(), false))]);
    }

    #[test]
    fn a_shard_has_ended_where_its_newest_process_has() {
        let known = known(&[
            "running/001/000001",
            "ended/001/000001",
            "running/002/000003",
            "running/002/000004",
            "ended/002/000003",
        ]);
        assert_eq!((known.end_of(1), known.end_of(2), known.end_of(3)), (Some((1, 1)), None, None));
        assert!(known.is_gone(1) && !known.is_gone(2) && !known.is_gone(3));
    }
}
