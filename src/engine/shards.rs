//! A rollout on several machines: each executes its own targets of one plan, under a lock of its shard, and under the stage's,
//! which all shards hold together.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::access::Entered;
use super::apply::Applied;
use super::lock::{GiveBack, LockError, Shared, of_shard};
use super::patience::patiently;
use super::records::covered;
use super::rollouts::Ended;
use super::together::Together;
use super::{Engine, Execution, Finished, Planning, Refusal, RolledOut};
use crate::domain::{Exit, Fault, Shard};
use crate::plan::{Content, Intent, Plan, Secrets};

/// How one shard's targets have ended, for whoever is last.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct ShardEnd {
    begun: Timestamp,
    alarm: Option<String>,
    targets: Vec<Ended>,
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

    /// Executes one shard's targets of a plan. One that was killed is started again in the same way: it goes on.
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
        let (plan, secrets, wait) = (execution.plan, &execution.request.secrets, execution.wait);
        let Content { application, stage, .. } = &plan.content;
        let own = of_shard(stage, shard);
        let done = self.locked(application, &own, wait, async |engine| {
            let number = engine.fence();
            let shared = Shared { plan: plan.digest, of: shard.of, rollout: engine.rollout_id(stage) };
            let work = |engine: Engine, rollout: String| async move {
                let together = Arc::new(Together::new(shard, number, plan, secrets, &rollout));
                let engine = Engine { together: Some(together.clone()), ..engine };
                match engine.shard(shard, &together, &rollout, execution, entered).await {
                    Ok((done, give_back)) => (Ok(done), give_back),
                    Err(refusal) => {
                        together.refused(&engine).await;
                        (Err(refusal), GiveBack::IfAlone)
                    }
                }
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

    /// Executes one shard's targets.
    async fn shard(
        &self,
        shard: Shard,
        together: &Together,
        rollout: &str,
        execution: Execution<'_>,
        entered: Vec<Entered>,
    ) -> Result<(RolledOut, GiveBack), Refusal> {
        let Execution { plan, request, .. } = &execution;
        let (plan, application, secrets) = (*plan, &plan.content.application, &request.secrets);
        together.running(self).await?;
        let part = Arc::new(part(plan, shard));
        // Of the journal, what the shard's processes before this one have written.
        let planning = if let Some(history) = self.history(application, rollout).await? {
            let asked = entered.iter().map(|one| (&one.target, Intent::Excluded)).collect();
            let differences = part.content.differences_in_what_is_asked(&request.content(asked));
            if !differences.is_empty() {
                return Err(Refusal::Differs(differences));
            }
            self.rejoin(plan, request, entered, &history).await
        } else {
            match (self.recheck(&part, request, entered).await, self.halted().await) {
                (Ok(planning), _) => planning,
                (Err(_), Some(why)) => return Err(Refusal::Halted(why)),
                (Err(differences), None) => return Err(Refusal::Differs(differences)),
            }
        };
        let planning = Planning { plan: plan.clone(), ..planning };
        if let Err(refusal) = self.begin_shard(&execution, rollout, &planning).await {
            self.discard(planning.ready).await;
            return Err(refusal);
        }
        let begun = self.events.now();
        let apply = async |engine: Engine| engine.apply(rollout, planning, request).await;
        let Applied { finished, alarm } = self.journalled(application, rollout, secrets, apply).await;
        // One that has gone off while another process executed this shard, or in another shard.
        let alarm = match alarm {
            None => together.alarm_told(self).await,
            alarm => alarm,
        };
        let exit = self.exit_of_shard(together, &finished, plan, alarm.is_some()).await;
        // One that was stopped is started again, and ends then.
        let all = match self.halted().await {
            Some(_) => None,
            None => self.end_shard(together, plan, rollout, begun, &finished, alarm, secrets).await,
        };
        let (all, give_back) = match all {
            Some((all, version)) => (Some(all), version.map_or(GiveBack::Not, GiveBack::Now)),
            None => (None, GiveBack::Not),
        };
        Ok((RolledOut { rollout: Some(rollout.to_owned()), finished, exit, all }, give_back))
    }

    /// Uses the plan's approval up, unless another shard has done so for this rollout, and writes down what is executed.
    async fn begin_shard(&self, execution: &Execution<'_>, rollout: &str, planning: &Planning) -> Result<(), Refusal> {
        let (plan, secrets) = (execution.plan, &execution.request.secrets);
        match self.begin(execution, Some(rollout), planning).await {
            // The approval is used: for this rollout, where another shard was faster.
            Err(shut @ Refusal::Shut(_)) => {
                if !self.used_for(plan, secrets).await?.iter().any(|used| used == rollout) {
                    return Err(shut);
                }
                self.begin_journal(rollout, planning).await?;
                if let Some(why) = self.halted().await {
                    return Err(Refusal::Halted(why));
                }
                self.started(rollout, plan);
                Ok(())
            }
            other => other,
        }
    }

    /// Returns what a shard's process answers: its own targets, judged by what all have come to.
    async fn exit_of_shard(&self, together: &Together, finished: &[Finished], plan: &Plan, alarm: bool) -> Exit {
        if alarm {
            return Exit::Failed;
        }
        let tolerated = plan.content.tolerated();
        let beyond = together.failures(self).await.map_or(true, |failures| failures > tolerated);
        Exit::of(finished.iter().map(|(_, outcome)| outcome), if beyond { 0 } else { tolerated })
    }

    /// Keeps how the shard has ended; and how all of the rollout has, where this was the last shard: returns that with the
    /// version that the stage's lock had before.
    #[expect(clippy::too_many_arguments, reason = "it is one shard's end, told to one place")]
    async fn end_shard(
        &self,
        together: &Together,
        plan: &Plan,
        rollout: &str,
        begun: Timestamp,
        finished: &[Finished],
        alarm: Option<String>,
        secrets: &Secrets,
    ) -> Option<((Vec<Finished>, Exit), Option<String>)> {
        let ended = |(target, outcome): &Finished| Ended { target: target.clone(), outcome: outcome.clone() };
        let end = ShardEnd { begun, alarm, targets: finished.iter().map(ended).collect() };
        let all = async {
            together.end(self, &covered(&end, secrets)).await?;
            let version = self.lock_version(&plan.content.application, &plan.content.stage).await?;
            let Some(keys) = together.ends(self).await? else { return Ok(None) };
            let mut ends = Vec::new();
            for key in keys {
                ends.extend(patiently(&self.stop, || self.record::<ShardEnd>(&key)).await?);
            }
            Ok::<_, Fault>(Some((ends, version)))
        };
        let (ends, version) = all.await.unwrap_or_else(|fault| {
            let text = format!("how the shard ended could not be kept: {fault}; `tenantry resume {rollout}` does that");
            self.events.notice(text);
            None
        })?;
        let begun = ends.iter().map(|end| end.begun).min().unwrap_or(begun);
        let alarm = ends.iter().any(|end| end.alarm.is_some());
        let finished: Vec<Finished> =
            ends.into_iter().flat_map(|end| end.targets).map(|ended| (ended.target, ended.outcome)).collect();
        let exit = Exit::of(finished.iter().map(|(_, outcome)| outcome), plan.content.tolerated());
        let exit = if alarm { Exit::Failed } else { exit };
        self.keep_rollout(Some(rollout), plan, secrets, begun, &finished, exit).await;
        Some(((finished, exit), version))
    }
}
