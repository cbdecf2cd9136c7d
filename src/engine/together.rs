//! What the shards of a rollout tell each other, through the store: what has failed, which waves are over, who runs and who has
//! ended. All of it is written once, under keys that say it, so that one listing tells everything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
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
    /// The waves before this one were told to be over.
    told: AtomicU32,
    /// The processes that executed nothing more when this one began: they say nothing of those that come.
    gone_before: OnceLock<BTreeSet<(u32, u64)>>,
    known: Mutex<Option<(Instant, Arc<Known>)>>,
}

/// What a failure's or an alarm's record says, for people too: its key has only what is counted.
#[derive(Debug, Serialize, Deserialize)]
struct Told {
    what: String,
    reason: Option<String>,
}

/// That a target has failed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Failed {
    /// The number of the process that has told it.
    number: u64,
    wave: Option<u32>,
    /// What tells reasons apart.
    signature: Option<String>,
    /// Whether it has failed; otherwise it was missed, which counts for the brakes alone.
    counts: bool,
}

/// What all shards have told.
#[derive(Debug, Default)]
struct Known {
    /// By target, of its newest process: none twice, and none that was mended.
    failures: BTreeMap<String, Failed>,
    alarm: Option<String>,
    over: BTreeSet<(u32, u32)>,
    running: BTreeSet<(u32, u64)>,
    ended: BTreeSet<(u32, u64)>,
    refused: BTreeSet<(u32, u64)>,
    /// Why nothing more is started, if so.
    held: Option<String>,
}

impl Known {
    fn read(prefix: &str, keys: &[String]) -> Self {
        let mut known = Self::default();
        let mut mended: BTreeMap<&str, u64> = BTreeMap::new();
        for key in keys.iter().filter_map(|key| key.strip_prefix(prefix)) {
            let words: Vec<&str> = key.split('/').collect();
            let process = |shard: &str, number: &str| Some((shard.parse::<u32>().ok()?, number.parse::<u64>().ok()?));
            match words.as_slice() {
                [kind @ ("failed" | "missed"), target, number, wave, signature] => {
                    let failed = Failed {
                        number: number.parse().unwrap_or_default(),
                        wave: wave.parse().ok(),
                        signature: (*signature != "-").then(|| (*signature).to_owned()),
                        counts: *kind == "failed",
                    };
                    let newest = known.failures.entry((*target).to_owned()).or_insert_with(|| failed.clone());
                    if newest.number < failed.number {
                        *newest = failed;
                    }
                }
                ["mended", target, number] => {
                    let newest = mended.entry(target).or_default();
                    *newest = number.parse::<u64>().unwrap_or_default().max(*newest);
                }
                ["alarm", alarm] => known.alarm = Some((*alarm).to_owned()),
                ["over", wave, shard] => known.over.extend(wave.parse().ok().zip(shard.parse().ok())),
                ["running", shard, number] => known.running.extend(process(shard, number)),
                ["ended", shard, number] => known.ended.extend(process(shard, number)),
                ["refused", shard, number] => known.refused.extend(process(shard, number)),
                _ => {}
            }
        }
        known
            .failures
            .retain(|target, failed| mended.get(target.as_str()).is_none_or(|number| *number < failed.number));
        known
    }

    fn processes(&self, shard: u32) -> impl DoubleEndedIterator<Item = (u32, u64)> {
        self.running.range((shard, 0)..=(shard, u64::MAX)).copied()
    }

    /// Returns the newest process of a shard that was not refused, where it has ended.
    fn end_of(&self, shard: u32) -> Option<(u32, u64)> {
        let newest = self.processes(shard).rev().find(|process| !self.refused.contains(process));
        newest.filter(|process| self.ended.contains(process))
    }

    /// Returns the newest process of a shard, where that executes nothing more.
    fn gone(&self, shard: u32) -> Option<(u32, u64)> {
        let newest = self.processes(shard).next_back();
        newest.filter(|process| self.ended.contains(process) || self.refused.contains(process))
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
            told: AtomicU32::new(0),
            gone_before: OnceLock::new(),
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

    /// Looks what the others have told, unless that was done so lately, or since this was asked.
    async fn look(&self, engine: &Engine, age: Duration) -> Result<Arc<Known>, Fault> {
        let asked = Instant::now();
        let mut known = self.known.lock().await;
        if let Some((at, found)) = known.as_ref()
            && (*at > asked || at.elapsed() < age)
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
        for failed in known.failures.values() {
            brakes.count(failed.wave, failed.signature.clone());
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
        for (target, failed) in &known.failures {
            if let Some(signature) = failed.signature.as_ref().filter(|signature| why.contains(signature.as_str())) {
                let told = reason(failed.key(target)).await;
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
    async fn why_not(&self, engine: &Engine) -> Option<String> {
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
    async fn ended(&self, engine: &Engine, target: &TargetId, outcome: &Outcome) {
        let place = short(&target.to_string());
        if matches!(outcome, Outcome::Deployed | Outcome::Unchanged) {
            let known = self.look(engine, FRESH).await;
            if known.is_ok_and(|known| known.failures.contains_key(&place)) {
                let told = self.tell(engine, &format!("mended/{place}/{:06}", self.number), target).await;
                self.must(engine, told, &format!("{target} is well now"));
            }
            return;
        }
        // That a run was stopped is no matter of the others'.
        let counts = outcome.is_failure() || engine.halted().await.is_none();
        let Some(content) =
            self.plan.content.target(target).filter(|content| counts && content.intent != Intent::Excluded)
        else {
            return;
        };
        let Some((wave, reason)) = brakes::failure(Some(content), outcome) else { return };
        // What a tenant's stack says can repeat a parameter, and be long.
        let reason = reason.map(|reason| self.secrets.cover_known(&reason));
        let signature = reason.as_deref().map(short);
        let failed = Failed { number: self.number, wave, signature, counts: outcome.is_failure() };
        let told = self.tell(engine, &failed.key(&place), &Told { what: target.to_string(), reason }).await;
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
    /// A shard that is executed is waited for as long as it is; one that was not started or has died, for a target's deadline.
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
            let Some((earlier, shards)) = self.waves.range(..wave).find_map(open) else {
                // A listing of several pages is none of one moment: what has failed was told before a wave was over.
                return match self.look(engine, Duration::ZERO).await {
                    Ok(known) => known.held.clone(),
                    Err(fault) => Some(unread(&fault)),
                };
            };
            let before = self.gone_before.get();
            let mut gone = Vec::new();
            for shard in &shards {
                let is_gone = known.gone(*shard).is_some_and(|one| before.is_none_or(|before| !before.contains(&one)));
                if is_gone || (begun.elapsed() > deadline && !self.is_executed(engine, *shard).await) {
                    gone.push(*shard);
                }
            }
            if !gone.is_empty() || engine.halted().await.is_some() {
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

    async fn is_executed(&self, engine: &Engine, number: u32) -> bool {
        let Content { application, stage, .. } = &self.plan.content;
        engine.is_executed(application, stage, Shard { number, of: self.shard.of }).await
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
        let first = self.told.load(Ordering::Relaxed).min(wave);
        for (earlier, _) in self.waves.range(first..wave).filter(|(_, shards)| shards.contains(&self.shard.number)) {
            let key = format!("over/{earlier:03}/{:03}", self.shard.number);
            let told = self.tell(engine, &key, &self.shard.to_string()).await;
            self.must(engine, told, "a wave is over");
        }
        self.told.store(wave, Ordering::Relaxed);
    }

    /// Tells the others that this process begins to execute its shard.
    pub(super) async fn running(&self, engine: &Engine) -> Result<(), Fault> {
        let known = self.look(engine, Duration::ZERO).await?;
        let gone = (1..=self.shard.of).filter_map(|shard| known.gone(shard)).collect();
        let _ = self.gone_before.set(gone);
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
        Ok(known.failures.values().filter(|failed| failed.counts).count() + excluded)
    }

    /// Returns why an alarm has stopped the rollout, if one has, in whatever process.
    pub(super) async fn alarm_told(&self, engine: &Engine) -> Option<String> {
        let known = self.look(engine, FRESH).await.ok()?;
        known.alarm.as_ref().and(known.held.clone())
    }

    /// Keeps how this process has ended.
    pub(super) async fn end(&self, engine: &Engine, end: &impl Serialize) -> Result<(), Fault> {
        self.tell(engine, &self.process("ended"), end).await
    }

    /// Returns the keys of all ends where every shard has ended.
    pub(super) async fn ends(&self, engine: &Engine) -> Result<Option<Vec<String>>, Fault> {
        let known = self.look(engine, Duration::ZERO).await?;
        let targets = &self.plan.content.targets;
        let members: BTreeSet<u32> =
            targets.iter().map(|target| Shard::with(&target.target, self.shard.of).number).collect();
        let ends: Vec<(u32, u64)> = members.iter().filter_map(|shard| known.end_of(*shard)).collect();
        let key = |(shard, number): (u32, u64)| format!("{}ended/{shard:03}/{number:06}", self.prefix);
        Ok((ends.len() == members.len()).then(|| ends.into_iter().map(key).collect()))
    }
}

impl Failed {
    fn key(&self, target: &str) -> String {
        let kind = if self.counts { "failed" } else { "missed" };
        let wave = self.wave.map_or_else(|| "-".to_owned(), |wave| format!("{wave:03}"));
        let signature = self.signature.as_deref().unwrap_or("-");
        format!("{kind}/{target}/{:06}/{wave}/{signature}", self.number)
    }
}

impl Engine {
    /// Tells the other shards how a target has ended, if there are any.
    pub(super) async fn tell_shards(&self, target: &TargetId, outcome: &Outcome) {
        if let Some(together) = &self.together {
            together.ended(self, target, outcome).await;
        }
    }

    /// Says why nothing more is started, if what other shards have come to is the reason.
    pub(super) async fn held_by_shards(&self) -> Option<String> {
        self.together.as_ref()?.why_not(self).await
    }
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
            "failed/a/000001/000/x",
            "failed/a/000002/000/y",
            "failed/b/000001/001/-",
            "missed/c/000001/001/x",
            "mended/b/000001",
            // What was well, and is not.
            "failed/d/000002/000/x",
            "mended/d/000001",
            "something/else",
        ]);
        let failures: Vec<_> =
            known.failures.iter().map(|(target, one)| (target.as_str(), one.number, one.counts)).collect();
        assert_eq!(failures, [("a", 2, true), ("c", 1, false), ("d", 2, true)]);
        assert_eq!(known.failures["a"].key("a"), "failed/a/000002/000/y");
    }

    #[test]
    fn a_shard_has_ended_where_its_newest_process_has() {
        let known = known(&[
            "running/001/000001",
            "ended/001/000001",
            "running/002/000003",
            "running/002/000004",
            "ended/002/000003",
            // Refused when it was started again, though it had ended.
            "running/003/000001",
            "ended/003/000001",
            "running/003/000002",
            "refused/003/000002",
        ]);
        assert_eq!([1, 2, 3, 4].map(|shard| known.end_of(shard)), [Some((1, 1)), None, Some((3, 1)), None]);
        assert_eq!([1, 2, 3, 4].map(|shard| known.gone(shard)), [Some((1, 1)), None, Some((3, 2)), None]);
    }
}
