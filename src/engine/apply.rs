//! Executing exactly a plan, wave by wave.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::brakes::Brakes;
use super::execute::{Again, Tried};
use super::follow::still_running;
use super::patience::patiently;
use super::plan::{Attempt, PlanRequest, Planning, Ready};
use super::usual::Usual;
use super::watch::Watched;
use super::window::{self, Flow};
use super::{Engine, Progress};
use crate::domain::lifecycle::State;
use crate::domain::{Failure, Outcome, Release, Tally, Target, TargetId, Wave};
use crate::event::{Event, Phase};
use crate::plan::Plan;
use crate::ports::TenantAccount;

/// A target with its outcome.
pub type Finished = (TargetId, Outcome);

impl Engine {
    /// Executes a planning's change sets, wave by wave, never more than `max-concurrency` at a time, and returns how
    /// every target ended, those that were settled by the plan included.
    ///
    /// Where the brakes hold, nothing new is started; what runs is followed to its end. What has failed is tried once
    /// more at the end, if the stage wants that and CloudFormation would still do the same.
    pub async fn apply(&self, rollout: &str, planning: Planning, request: &PlanRequest) -> Applied {
        let Planning { plan, ready, unchanged, settled, reached } = planning;
        let stage = plan.content.stage.clone();
        if !ready.is_empty() {
            self.events.emit(Event::PhaseStarted { phase: Phase::Apply, stage: stage.clone(), targets: ready.len() });
        }
        let run = Arc::new(Run::new(self, rollout, request, plan));
        let mut brakes = Brakes::new(&run.plan.content);
        if let Some(together) = &self.together {
            brakes.share(|limit| together.share(limit));
        }
        for (target, outcome) in &settled {
            self.tell_shards(&target.id, outcome).await;
            brakes.seen(&target.id, outcome);
        }
        if let Some(reached) = reached.filter(|_| brakes.held().is_none()) {
            run.bake_again(reached, &settled, &ready, &mut brakes).await;
        }
        if !ready.is_empty() {
            run.watch_wave(&[], Duration::ZERO, false, &mut brakes).await;
        }
        let mut finished = run.waves(ready, unchanged, &mut brakes).await;
        finished.extend(settled.into_iter().map(|(target, outcome)| (target.id, outcome)));
        let tally = Tally::of(finished.iter().map(|(_, outcome)| outcome));
        self.events.emit(Event::PhaseFinished { phase: Phase::Apply, stage, tally });
        Applied { finished, alarm: brakes.alarm().map(str::to_owned) }
    }
}

/// How a plan's execution has ended.
#[derive(Debug)]
pub struct Applied {
    /// How every target ended.
    pub finished: Vec<Finished>,
    /// The alarm that has stopped it, if one has.
    pub alarm: Option<String>,
}

/// A target that needs no change, with the way into its account.
type Entrance = (Target, Arc<dyn TenantAccount>);

/// What all targets of a rollout share.
pub(super) struct Run {
    pub(super) engine: Engine,
    pub(super) rollout: String,
    pub(super) plan: Arc<Plan>,
    pub(super) release: Release,
    pub(super) attempt: Arc<Attempt>,
    /// How long its stacks take to be created, and to be updated.
    pub(super) creating: Usual,
    pub(super) updating: Usual,
}

impl Run {
    fn new(engine: &Engine, rollout: &str, request: &PlanRequest, plan: Arc<Plan>) -> Self {
        let attempt = Arc::new(Attempt::new(engine, request));
        let rollout = rollout.to_owned();
        let release = request.release.clone();
        let (creating, updating) = (Usual::default(), Usual::default());
        Self { engine: engine.clone(), rollout, plan, release, attempt, creating, updating }
    }

    /// Brings all targets to their outcomes, wave by wave: first those of a wave that need no change, since what is
    /// found wrong with them holds back what follows, then those that do.
    async fn waves(
        self: &Arc<Self>,
        ready: Vec<Ready>,
        unchanged: Vec<Entrance>,
        brakes: &mut Brakes<'_>,
    ) -> Vec<Finished> {
        let Engine { events, stop, .. } = &self.engine;
        let policies = &self.plan.content.rollout.waves;
        let mut waves: BTreeMap<u32, (Vec<Entrance>, Vec<Ready>)> = BTreeMap::new();
        for (target, account) in unchanged {
            waves.entry(target.wave).or_default().0.push((target, account));
        }
        for ready in ready {
            waves.entry(ready.target.wave).or_default().1.push(ready);
        }
        let (mut finished, mut again) = (Vec::new(), Vec::new());
        while let Some((number, (unchanged, wave))) = waves.pop_first() {
            self.over_before(number, brakes).await;
            finished.extend(self.look_at(unchanged, brakes).await);
            if wave.is_empty() {
                continue;
            }
            self.wait_for_shards(number, brakes).await;
            let policy = policies.get(number as usize);
            if let Some(policy) = policy
                && self.why_not(brakes).await.is_none()
            {
                events.emit(Event::WaveStarted { wave: policy.name.clone(), targets: wave.len() });
            }
            // What runs already is followed, whatever holds the others back.
            let (mut items, mut held): (Vec<Ready>, Vec<Ready>) = wave.into_iter().partition(|ready| ready.begun);
            let limit = brakes.limit().max(items.len());
            if brakes.held().is_none() {
                items.append(&mut held);
            }
            let watched: Vec<Watched> =
                items.iter().map(|ready| (ready.target.clone(), ready.account.clone())).collect();
            let work = |ready| self.clone().in_turn(ready);
            let judge = |tried: &Tried| {
                let (target, outcome) = tried.outcome();
                brakes.seen(target, outcome)
            };
            let results = window::run(items, limit, stop, work, judge).await;
            for result in results.into_iter().chain(held.into_iter().map(Err)) {
                match result {
                    Ok(Tried::Finished(end)) => finished.push(end),
                    Ok(Tried::Again(one)) => again.push(*one),
                    Err(ready) if ready.begun => {
                        let outcome = Outcome::Detached(still_running("the run was stopped"));
                        let progress = Progress::new(&ready.target.id, State::Planned, events);
                        finished.push((ready.target.id, progress.finish(outcome)));
                    }
                    Err(ready) => {
                        let why = self.why_not(brakes).await.unwrap_or_else(|| "the rollout ended".to_owned());
                        let outcome = Outcome::Skipped(Failure::because(format!("not started: {why}")));
                        let progress = Progress::new(&ready.target.id, State::Planned, events);
                        finished.push((ready.target.id, progress.finish(outcome)));
                    }
                }
            }
            let is_last = match &self.engine.together {
                Some(together) => !together.goes_on_after(number),
                None => waves.values().all(|(_, ready)| ready.is_empty()),
            };
            if self.why_not(brakes).await.is_none() {
                let bake = policy.filter(|_| !is_last).map_or(Duration::ZERO, |policy| policy.bake);
                if let Some(policy) = policy.filter(|_| !bake.is_zero()) {
                    events.emit(Event::Baking { wave: policy.name.clone(), seconds: bake.as_secs() });
                }
                // Those that failed have been judged already, and need not have their alarms.
                let deployed: BTreeSet<&TargetId> = finished
                    .iter()
                    .filter(|(_, outcome): &&Finished| *outcome == Outcome::Deployed)
                    .map(|(target, _)| target)
                    .collect();
                let watched: Vec<Watched> =
                    watched.into_iter().filter(|(target, _)| deployed.contains(&target.id)).collect();
                self.watch_wave(&watched, bake, is_last, brakes).await;
            }
        }
        self.over_before(u32::MAX, brakes).await;
        finished.extend(self.requeue(again, brakes).await);
        finished
    }

    /// Brings a target to its outcome, unless other shards have come to what holds this one too; and tells them of it.
    async fn in_turn(self: Arc<Self>, ready: Ready) -> Tried {
        if !ready.begun
            && let Some(why) = self.engine.held_by_shards().await
        {
            let outcome = Outcome::Skipped(Failure::because(format!("not started: {why}")));
            let progress = Progress::new(&ready.target.id, State::Planned, &self.engine.events);
            return Tried::Finished((ready.target.id, progress.finish(outcome)));
        }
        let tried = self.clone().target(ready).await;
        let (target, outcome) = tried.outcome();
        self.engine.tell_shards(target, outcome).await;
        tried
    }

    /// Tells the other shards that the waves before one are over here.
    async fn over_before(&self, wave: u32, brakes: &Brakes<'_>) {
        if let Some(together) = &self.engine.together
            && self.why_not(brakes).await.is_none()
        {
            together.over_before(&self.engine, wave).await;
        }
    }

    /// Waits until the waves before one are over in all shards.
    async fn wait_for_shards(&self, wave: u32, brakes: &mut Brakes<'_>) {
        if let Some(together) = &self.engine.together
            && self.why_not(brakes).await.is_none()
            && let Some(why) = together.before(&self.engine, wave).await
        {
            brakes.hold(why);
        }
    }

    /// Says why nothing more is started, if so.
    async fn why_not(&self, brakes: &Brakes<'_>) -> Option<String> {
        self.engine.halted().await.or(brakes.held()).map(str::to_owned)
    }

    /// Looks at targets that need no change. That changes nothing, so that the brakes count and do not hold.
    async fn look_at(self: &Arc<Self>, unchanged: Vec<Entrance>, brakes: &mut Brakes<'_>) -> Vec<Finished> {
        let look = |(target, account)| self.clone().unchanged(target, account);
        let judge = |(target, outcome): &Finished| {
            brakes.seen(target, outcome);
            Flow::Start
        };
        let skipped = |(target, _): Entrance| {
            let outcome = Outcome::Skipped(Failure::because("not looked at: the run was stopped"));
            self.engine.events.emit(Event::Finished { target: target.id.clone(), outcome: outcome.clone() });
            (target.id, outcome)
        };
        let looked = window::run(unchanged, window::WIDE, &self.engine.stop, look, judge).await;
        looked.into_iter().map(|result| result.unwrap_or_else(skipped)).collect()
    }

    /// Waits after a wave that was over when the rollout was interrupted: how long it had baked is not known.
    async fn bake_again(&self, last: u32, settled: &[(Target, Outcome)], ready: &[Ready], brakes: &mut Brakes<'_>) {
        let mut goes_on = ready.iter().any(|ready| ready.target.wave > last);
        if let Some(together) = &self.engine.together {
            if together.has_told_over(&self.engine, last).await {
                return;
            }
            // A shard's next wave may be in others, which wait for its bake.
            goes_on |= together.goes_on_after(last);
        }
        if ready.is_empty() && !goes_on {
            return;
        }
        // Where something is left of the wave itself, it is baked when that has ended.
        let is_over = ready.iter().all(|ready| ready.target.wave != last);
        let wave = self.plan.content.rollout.waves.get(last as usize);
        let wave = wave.filter(|wave| goes_on && is_over && !wave.bake.is_zero());
        if let Some(Wave { name, bake, .. }) = wave {
            self.engine.events.emit(Event::Baking { wave: name.clone(), seconds: bake.as_secs() });
        }
        // What was deployed before is watched too, once at least.
        let mut watched = Vec::new();
        let deployed = settled.iter().filter(|(_, outcome)| *outcome == Outcome::Deployed).map(|(target, _)| target);
        for target in deployed.filter(|target| !target.alarms.is_empty()) {
            match patiently(&self.engine.stop, || self.engine.accounts.enter(target)).await {
                Ok(account) => watched.push((target.clone(), account)),
                Err(_) if self.engine.stop.is_requested() => return,
                Err(fault) => return brakes.alarm_raised(format!("{}: alarms cannot be read: {fault}", target.id)),
            }
        }
        self.watch_wave(&watched, wave.map_or(Duration::ZERO, |wave| wave.bake), false, brakes).await;
    }

    /// Waits after a wave with an eye on its alarms and on those of the tooling account. One that has gone off stops
    /// the rollout.
    async fn watch_wave(&self, wave: &[Watched], bake: Duration, is_last: bool, brakes: &mut Brakes<'_>) {
        if let Some(why) = self.engine.watch(&self.plan.content.rollout.alarms, wave, bake, is_last).await {
            self.engine.events.notice(format!("the rollout stops: {why}"));
            if let Some(together) = &self.engine.together {
                together.alarm(&self.engine, &why).await;
            }
            brakes.alarm_raised(why);
        }
    }

    /// Tries what has failed once more.
    async fn requeue(self: &Arc<Self>, again: Vec<Again>, brakes: &mut Brakes<'_>) -> Vec<Finished> {
        if again.is_empty() {
            return Vec::new();
        }
        if self.engine.held_by_shards().await.is_some() || self.why_not(brakes).await.is_some() {
            let end = |one: Again| (one.target.id, one.progress.finish(one.outcome));
            return again.into_iter().map(end).collect();
        }
        self.engine.events.notice(format!("trying {} that failed once more", again.len()));
        let work = |one| self.clone().once_more(one);
        let limit = brakes.limit();
        let judge = |(_, outcome): &Finished| {
            if matches!(outcome, Outcome::Deployed) {
                brakes.mended();
            }
            Flow::AtMost(brakes.limit())
        };
        let end = |one: Again| (one.target.id, one.progress.finish(one.outcome));
        let results = window::run(again, limit, &self.engine.stop, work, judge).await;
        results.into_iter().map(|result| result.unwrap_or_else(end)).collect()
    }
}
