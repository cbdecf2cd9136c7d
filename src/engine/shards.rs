//! A rollout on several machines. Each executes its own targets of one plan; what they share is in the store: the stage's
//! lock, what has failed, which waves are over, and who has ended. All of it is written once and counted by its keys, so that
//! one listing tells everything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use super::access::Entered;
use super::apply::Applied;
use super::brakes::Brakes;
use super::lock::{GiveBack, LockError, Shared, of_shard};
use super::patience::patiently;
use super::records::{covered, written};
use super::rollouts::Ended;
use super::{Engine, Execution, Finished, Refusal, RolledOut};
use crate::domain::{Digest, Exit, Fault, Outcome, Shard, TargetId};
use crate::plan::{Content, Intent, Plan, Secrets};

/// For how long what the others have come to is taken as known.
const FRESH: Duration = Duration::from_secs(1);
/// How often it is looked whether the others have ended a wave.
const LOOK: Duration = Duration::from_secs(5);
/// How often it is told that they have not.
const TELL: Duration = Duration::from_mins(5);
/// So much of a reason is told to the others; a key has at most 1,024 bytes.
const REASON: usize = 300;

/// What one shard of a rollout knows of the others.
pub struct Together {
    shard: Shard,
    /// The number of the shard's own lock, which grows with every process that executes it.
    number: u64,
    plan: Arc<Plan>,
    prefix: String,
    /// The shards that have something to execute in each wave.
    waves: BTreeMap<u32, BTreeSet<u32>>,
    /// The shards that have targets at all.
    members: BTreeSet<u32>,
    known: Mutex<Option<(Instant, Arc<Known>)>>,
}

/// What all shards have told.
#[derive(Debug, Default)]
struct Known {
    /// The waves and the reasons of what has failed, and was not mended by another try.
    failures: Vec<(u32, Option<String>)>,
    alarm: Option<String>,
    /// The waves that are over, each with the shard in which it is.
    over: BTreeSet<(u32, u32)>,
    ended: BTreeSet<u32>,
}

impl Known {
    fn read(prefix: &str, keys: &[String]) -> Self {
        let words = keys.iter().filter_map(|key| key.strip_prefix(prefix)).map(|key| key.split('/').collect());
        let words: Vec<Vec<&str>> = words.collect();
        let mended = |target: &str| words.iter().any(|words| words.as_slice() == ["mended", target]);
        let mut known = Self::default();
        for words in &words {
            match words.as_slice() {
                ["failed", wave, target, reason] if !mended(target) => {
                    known.failures.push((wave.parse().unwrap_or_default(), unwrapped(reason)));
                }
                ["alarm", reason] => known.alarm = unwrapped(reason),
                ["over", wave, shard] => known.over.extend(wave.parse().ok().zip(shard.parse().ok())),
                ["ended", shard] => known.ended.extend(shard.parse::<u32>()),
                _ => {}
            }
        }
        known
    }
}

/// Returns a reason as a part of a key: `-` where there is none.
fn wrapped(reason: Option<&str>) -> String {
    let short = |reason: &str| reason.chars().take(REASON).collect::<String>();
    reason.map_or_else(|| "-".to_owned(), |reason| BASE64_URL_SAFE_NO_PAD.encode(short(reason)))
}

fn unwrapped(part: &str) -> Option<String> {
    BASE64_URL_SAFE_NO_PAD.decode(part).ok().and_then(|bytes| String::from_utf8(bytes).ok())
}

/// How one shard's targets have ended, for whoever is last.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct ShardEnd {
    begun: Timestamp,
    alarm: Option<String>,
    targets: Vec<Ended>,
}

impl Together {
    fn new(shard: Shard, number: u64, plan: &Arc<Plan>, rollout: &str) -> Self {
        let Content { application, targets, .. } = &plan.content;
        let mut waves: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
        let mut members = BTreeSet::new();
        for target in targets {
            let Shard { number, .. } = Shard::with(&target.target, shard.of);
            members.insert(number);
            if !matches!(target.intent, Intent::Excluded | Intent::Pinned) {
                waves.entry(target.wave).or_default().insert(number);
            }
        }
        let prefix = format!("tenantry/{application}/rollouts/{rollout}.shards/");
        Self { shard, number, plan: plan.clone(), prefix, waves, members, known: Mutex::default() }
    }

    /// Returns what tells this process's segments of the journal from those of others.
    pub(super) fn place(&self) -> String {
        format!("{:03}-{:06}-", self.shard.number, self.number)
    }

    /// Returns this shard's share of what may be in work at a time.
    pub(super) fn share(&self, limit: usize) -> usize {
        self.shard.share(limit).max(1)
    }

    /// Tells whether some wave comes after one, in whatever shard.
    pub(super) fn goes_on_after(&self, wave: u32) -> bool {
        self.waves.keys().any(|later| *later > wave)
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
        let found = Arc::new(Known::read(&self.prefix, &keys));
        *known = Some((at, found.clone()));
        Ok(found)
    }

    async fn tell(&self, engine: &Engine, key: &str, record: &impl Serialize) -> Result<(), Fault> {
        let key = format!("{}{key}", self.prefix);
        // What has happened is told also by a run that was asked to stop.
        let (_handle, never) = super::Stop::new();
        patiently(&never, || engine.store.put_once(&key, written(record))).await.map(drop)
    }

    /// Says why nothing more is started, if what all shards together have come to is the reason.
    pub(super) async fn why_not(&self, engine: &Engine) -> Option<String> {
        match self.look(engine, FRESH).await {
            Ok(known) => self.held(&known),
            // Safety rule 5: what cannot be read opens no way.
            Err(fault) => Some(unread(&fault)),
        }
    }

    fn held(&self, known: &Known) -> Option<String> {
        let mut brakes = Brakes::new(&self.plan.content);
        for (wave, reason) in &known.failures {
            brakes.count(Some(*wave), reason.clone());
        }
        let why = known.alarm.as_deref().or(brakes.held());
        why.map(|why| format!("{why}, over all shards"))
    }

    /// Tells the others of a failure.
    pub(super) async fn failed(&self, engine: &Engine, target: &TargetId, wave: Option<u32>, reason: Option<&str>) {
        let place = Digest::of(target.to_string()).short();
        let key = format!("failed/{:03}/{place}/{}", wave.unwrap_or_default(), wrapped(reason));
        if let Err(fault) = self.tell(engine, &key, target).await {
            engine.events.notice(format!("the other shards could not be told that {target} has failed: {fault}"));
        }
    }

    /// Tells the others that what had failed has not after all.
    pub(super) async fn mended(&self, engine: &Engine, target: &TargetId) {
        let key = format!("mended/{}", Digest::of(target.to_string()).short());
        if let Err(fault) = self.tell(engine, &key, target).await {
            engine.events.notice(format!("the other shards could not be told that {target} was mended: {fault}"));
        }
    }

    /// Tells the others that an alarm has stopped the rollout.
    pub(super) async fn alarm(&self, engine: &Engine, why: &str) {
        if let Err(fault) = self.tell(engine, &format!("alarm/{}", wrapped(Some(why))), &why).await {
            engine.events.notice(format!("the other shards could not be told of the alarm: {fault}"));
        }
    }

    /// Waits until every wave before one is over in all shards. Says why it may not begin, where they do not come to that.
    pub(super) async fn before(&self, engine: &Engine, wave: u32) -> Option<String> {
        let begun = Instant::now();
        let deadline = self.plan.content.rollout.deadline;
        let mut told: Option<Instant> = None;
        loop {
            let known = match self.look(engine, FRESH).await {
                Ok(known) => known,
                Err(fault) => return Some(unread(&fault)),
            };
            let is_over = |wave: u32, shard: u32| known.over.contains(&(wave, shard));
            let earlier = self.waves.range(..wave).find_map(|(wave, shards)| {
                let open: Vec<String> =
                    shards.iter().filter(|shard| !is_over(*wave, **shard)).map(u32::to_string).collect();
                (!open.is_empty())
                    .then(|| format!("{} in shard {} of {}", self.wave(*wave), open.join(", "), self.shard.of))
            })?;
            if let Some(why) = self.held(&known) {
                return Some(why);
            }
            if engine.halted().is_some() || begun.elapsed() > deadline {
                return Some(format!("{earlier} is not over"));
            }
            if told.is_none_or(|told| told.elapsed() >= TELL) {
                told = Some(Instant::now());
                engine.events.notice(format!("waiting for {earlier}"));
            }
            tokio::select! {
                biased;
                () = sleep(LOOK) => {}
                () = engine.stop.requested() => {}
            }
        }
    }

    fn wave(&self, number: u32) -> String {
        let name = self.plan.content.rollout.waves.get(number as usize).map(|wave| wave.name.as_str());
        format!("wave {}", name.unwrap_or("?"))
    }

    /// Tells the others that all waves before one are over here.
    pub(super) async fn over_before(&self, engine: &Engine, wave: u32) {
        for (earlier, _) in self.waves.range(..wave).filter(|(_, shards)| shards.contains(&self.shard.number)) {
            let key = format!("over/{earlier:03}/{:03}", self.shard.number);
            if let Err(fault) = self.tell(engine, &key, &self.shard.to_string()).await {
                let name = self.wave(*earlier);
                engine.events.notice(format!("the other shards could not be told that {name} is over here: {fault}"));
            }
        }
    }

    /// Tells how this shard has ended, and returns how all have where this was the last one.
    async fn end(&self, engine: &Engine, end: &ShardEnd, secrets: &Secrets) -> Result<Option<Vec<ShardEnd>>, Fault> {
        let key = |shard: u32| format!("{}ended/{shard:03}", self.prefix);
        let own = key(self.shard.number);
        // One that was started again may know more than it did.
        let version = engine.store.get(&own).await?.map(|(_, version)| version);
        engine.store.replace(&own, written(&covered(end, secrets)), version.as_deref()).await?;
        let known = self.look(engine, Duration::ZERO).await?;
        if !self.members.is_subset(&known.ended) {
            return Ok(None);
        }
        let mut ends = Vec::new();
        for shard in &self.members {
            ends.extend(engine.record::<ShardEnd>(&key(*shard)).await?);
        }
        Ok(Some(ends))
    }
}

fn unread(fault: &Fault) -> String {
    format!("what the other shards have come to cannot be read: {fault}")
}

/// Returns what a plan says of one shard's targets.
fn part(plan: &Plan, shard: Shard) -> Plan {
    let mut part = plan.clone();
    part.content.targets.retain(|target| shard.has(&target.target));
    part.unchanged.retain(|version| shard.has(&version.target));
    part.digest = part.content.digest();
    part
}

impl Engine {
    /// Returns the rollout in which other shards execute a plan already, with its approval used up for it.
    ///
    /// # Errors
    ///
    /// Returns the store's fault.
    pub async fn shared_rollout(&self, plan: &Plan, of: u32, secrets: &Secrets) -> Result<Option<String>, Fault> {
        let Some(rollout) = self.shared_lock(plan, of).await? else { return Ok(None) };
        Ok(self.used_for(plan, secrets).await?.contains(&rollout).then_some(rollout))
    }

    /// Executes one shard's targets of a plan, under a lock of the shard and one of the stage that all shards hold together.
    /// One that was killed is started again in the same way: it goes on.
    ///
    /// # Errors
    ///
    /// Says why nothing was executed.
    pub async fn roll_out_shard(
        &self,
        shard: Shard,
        execution: Execution<'_>,
        entered: Vec<Entered>,
    ) -> Result<RolledOut, Refusal> {
        let (plan, wait) = (execution.plan, execution.wait);
        let Content { application, stage, .. } = &plan.content;
        let own = of_shard(stage, shard);
        let done = self.locked(application, &own, wait, async |engine| {
            let number = engine.fence();
            let rollout = engine.rollout_id(stage);
            let shared = Shared { plan: plan.digest, round: plan.round, of: shard.of, rollout };
            let work = |engine: Engine, rollout: String| async move {
                let together = Some(Arc::new(Together::new(shard, number, plan, &rollout)));
                let engine = Engine { together, ..engine };
                let result = engine.shard(shard, &rollout, execution, entered).await;
                let give_back = match &result {
                    Ok((_, true)) => GiveBack::Now,
                    Ok((_, false)) => GiveBack::Not,
                    Err(_) => GiveBack::IfAlone,
                };
                (result.map(|(done, _)| done), give_back)
            };
            engine.locked_together(application, stage, shared, wait, work).await.map_err(Refusal::Locked)?
        });
        done.await.map_err(|error| {
            Refusal::Locked(match error {
                LockError::Taken(lock, _) => LockError::Taken(lock, Some(shard)),
                other => other,
            })
        })?
    }

    /// Executes one shard's targets, and tells whether all shards have ended by that.
    async fn shard(
        &self,
        shard: Shard,
        rollout: &str,
        execution: Execution<'_>,
        entered: Vec<Entered>,
    ) -> Result<(RolledOut, bool), Refusal> {
        let Execution { plan, request, .. } = &execution;
        let (plan, application) = (*plan, &plan.content.application);
        let part = Arc::new(part(plan, shard));
        let history = self.history(application, rollout).await?.filter(|history| {
            let mut begun = history.prepared.iter().map(|one| &one.target).chain(history.outcomes.keys());
            begun.any(|target| shard.has(target))
        });
        let planning = if let Some(history) = &history {
            let asked = entered.iter().map(|one| (&one.target, Intent::Excluded)).collect();
            let differences = part.content.differences_in_what_is_asked(&request.content(asked));
            if !differences.is_empty() {
                return Err(Refusal::Differs(differences));
            }
            self.rejoin(plan, request, entered, history).await
        } else {
            match (self.recheck(&part, request, entered).await, self.halted()) {
                (Ok(planning), _) => planning,
                (Err(_), Some(why)) => return Err(Refusal::Halted(why)),
                (Err(differences), None) => return Err(Refusal::Differs(differences)),
            }
        };
        let planning = super::Planning { plan: plan.clone(), ..planning };
        if let Err(refusal) = self.begin_shard(&execution, rollout, &planning).await {
            self.discard(planning.ready).await;
            return Err(refusal);
        }
        let begun = self.events.now();
        let secrets = &request.secrets;
        let apply = async |engine: Engine| engine.apply(rollout, planning, request).await;
        let Applied { finished, alarm } = self.journalled(application, rollout, secrets, apply).await;
        let exit = self.exit_of_shard(&finished, plan, alarm.is_some()).await;
        // One that was stopped is started again, and ends then.
        let over = if self.halted().is_some() { None } else { self.end_shard(begun, &finished, alarm, secrets).await };
        let is_over = over.is_some();
        let all = match over {
            Some(ends) => Some(self.keep_all(rollout, plan, secrets, ends).await),
            None => None,
        };
        Ok((RolledOut { rollout: Some(rollout.to_owned()), finished, exit, all }, is_over))
    }

    /// Uses the plan's approval up, unless another shard has done so for this rollout, and writes down what is executed.
    async fn begin_shard(
        &self,
        execution: &Execution<'_>,
        rollout: &str,
        planning: &super::Planning,
    ) -> Result<(), Refusal> {
        let (plan, secrets) = (execution.plan, &execution.request.secrets);
        let refused = match self.begin(execution, Some(rollout), planning).await {
            Ok(()) => return Ok(()),
            Err(refusal) => refusal,
        };
        if !self.used_for(plan, secrets).await?.iter().any(|used| used == rollout) {
            return Err(refused);
        }
        // Another shard was faster; where it was so at the very moment, what is executed is written down already.
        if !matches!(refused, Refusal::Fault(_)) {
            self.begin_journal(rollout, planning).await?;
        }
        if let Some(why) = self.halted() {
            return Err(Refusal::Halted(why));
        }
        self.started(rollout, plan);
        Ok(())
    }

    /// Returns what a shard's process answers: its own targets, judged by what all have come to.
    async fn exit_of_shard(&self, finished: &[Finished], plan: &Plan, alarm: bool) -> Exit {
        if alarm {
            return Exit::Failed;
        }
        let beyond = match &self.together {
            Some(together) => together
                .look(self, Duration::ZERO)
                .await
                .is_ok_and(|known| known.failures.len() > plan.content.tolerated()),
            None => false,
        };
        Exit::of(finished.iter().map(|(_, outcome)| outcome), if beyond { 0 } else { plan.content.tolerated() })
    }

    async fn end_shard(
        &self,
        begun: Timestamp,
        finished: &[Finished],
        alarm: Option<String>,
        secrets: &Secrets,
    ) -> Option<Vec<ShardEnd>> {
        let together = self.together.as_ref()?;
        let ended = |(target, outcome): &Finished| Ended { target: target.clone(), outcome: outcome.clone() };
        let end = ShardEnd { begun, alarm, targets: finished.iter().map(ended).collect() };
        together.end(self, &end, secrets).await.unwrap_or_else(|fault| {
            self.events.notice(format!("how the shard ended could not be kept: {fault}"));
            None
        })
    }

    /// Keeps how the rollout ended in all shards.
    async fn keep_all(
        &self,
        rollout: &str,
        plan: &Plan,
        secrets: &Secrets,
        ends: Vec<ShardEnd>,
    ) -> (Vec<Finished>, Exit) {
        let begun = ends.iter().map(|end| end.begun).min().unwrap_or_else(|| self.events.now());
        let alarm = ends.iter().any(|end| end.alarm.is_some());
        let all = ends.into_iter().flat_map(|end| end.targets);
        let finished: Vec<(TargetId, Outcome)> = all.map(|ended| (ended.target, ended.outcome)).collect();
        let exit = Exit::of(finished.iter().map(|(_, outcome)| outcome), plan.content.tolerated());
        let exit = if alarm { Exit::Failed } else { exit };
        self.keep_rollout(Some(rollout), plan, secrets, begun, &finished, exit).await;
        (finished, exit)
    }
}
