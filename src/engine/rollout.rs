//! Rolling a plan out: under the stage's lock, from the last comparison to the record of how it ended.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::access::Entered;
use super::apply::Applied;
use super::{Engine, Finished, History, LockError, PlanRequest, Planning};
use crate::domain::{Exit, Fault, Gate, Outcome, Release, ReleaseId, Target, TargetId};
use crate::event::Event;
use crate::plan::{Content, Origin, Plan, Standing};

/// What is to be executed in a stage.
pub struct Execution<'a> {
    /// The plan.
    pub plan: &'a Arc<Plan>,
    /// What was planned by it.
    pub request: &'a PlanRequest,
    /// The outcomes that are known already, where this run has planned.
    pub settled: Option<Vec<(Target, Outcome)>>,
    /// The stage before, with its targets, where the release was promoted from there.
    pub before: Option<(String, Vec<TargetId>)>,
    /// How long to wait for the stage's lock.
    pub wait: Duration,
}

/// How a rollout has ended.
#[derive(Debug)]
pub struct RolledOut {
    /// Its name; none where nothing was to be executed.
    pub rollout: Option<String>,
    /// How every target ended.
    pub finished: Vec<Finished>,
    /// What the process answers for it.
    pub exit: Exit,
    /// How all of the rollout has ended, where it has: not where other shards go on.
    pub all: Option<(Vec<Finished>, Exit)>,
}

/// Why nothing was executed.
#[derive(Debug)]
pub enum Refusal {
    /// Somebody else has the stage's lock.
    Locked(LockError),
    /// The plan is not what would happen now: the texts name every difference.
    Differs(Vec<String>),
    /// The gate is shut.
    Shut(Standing),
    /// The release counts as finished in the stage before no longer.
    Unproven {
        /// The release.
        release: ReleaseId,
        /// The stage before.
        stage: String,
    },
    /// The run was stopped, or its lock is lost.
    Halted(&'static str),
    /// The approval was used for another rollout than the one to go on with.
    NotItsApproval,
    /// The store failed.
    Fault(Fault),
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl Engine {
    /// Under the stage's lock: compares the plan with what would happen now, uses its approval up, and executes it.
    ///
    /// # Errors
    ///
    /// Says why nothing was executed.
    pub async fn roll_out(&self, execution: Execution<'_>, entered: Vec<Entered>) -> Result<RolledOut, Refusal> {
        let Content { application, stage, .. } = &execution.plan.content;
        let done = self.locked(application, stage, execution.wait, async |engine| {
            let Execution { plan, request, .. } = execution;
            let mut planning = match (engine.recheck(plan, request, entered).await, engine.halted().await) {
                (Ok(planning), _) => planning,
                (Err(_), Some(why)) => return Err(Refusal::Halted(why)),
                (Err(differences), None) => return Err(Refusal::Differs(differences)),
            };
            if let Some(settled) = execution.settled.clone() {
                planning.settled = settled;
            }
            let rollout = plan.content.is_executable().then(|| engine.rollout_id(stage));
            if let Err(refusal) = engine.begin(&execution, rollout.as_deref(), &planning).await {
                engine.discard(planning.ready).await;
                return Err(refusal);
            }
            Ok(engine.execute(rollout, planning, request).await)
        });
        done.await.map_err(Refusal::Locked)?
    }

    /// Ends a stage in which no stack has to change: where the ledger knows that, there is nothing to do; otherwise
    /// it learns of it under the lock, and what may never have been verified is.
    ///
    /// # Errors
    ///
    /// Says why it could not be looked at again.
    pub async fn settle(
        &self,
        request: &PlanRequest,
        planning: Planning,
        wait: Duration,
    ) -> Result<RolledOut, Refusal> {
        let Release { application, id, .. } = &request.release;
        let targets: Vec<TargetId> = planning.unchanged.iter().map(|(target, _)| target.id.clone()).collect();
        let is_known = async {
            Ok::<bool, Fault>(
                request.origin != Origin::Rollback
                    && self.are_on(application, &request.stage, targets.clone(), id).await?
                    && self.has_finished(application, &request.stage, targets.clone(), id).await?,
            )
        };
        if is_known.await.unwrap_or(false) {
            return Ok(self.execute(None, planning, request).await);
        }
        let (plan, entered) = (planning.plan.clone(), planning.entered());
        let settled = Some(planning.settled);
        let execution = Execution { plan: &plan, request, settled, before: None, wait };
        self.roll_out(execution, entered).await
    }

    /// Goes on with a rollout that was interrupted, on whatever machine: what runs is followed, what was approved and
    /// not begun is executed, and nothing is executed twice.
    ///
    /// # Errors
    ///
    /// Says why nothing was executed.
    pub async fn resume(
        &self,
        rollout: &str,
        history: History,
        execution: Execution<'_>,
        entered: Vec<Entered>,
    ) -> Result<RolledOut, Refusal> {
        let Execution { plan, request, wait, .. } = execution;
        let Content { application, stage, .. } = &plan.content;
        let done = self.locked(application, stage, wait, async |engine| {
            let asked =
                request.content(entered.iter().map(|one| (&one.target, crate::plan::Intent::Excluded)).collect());
            let differences = plan.content.differences_in_what_is_asked(&asked);
            if !differences.is_empty() {
                return Err(Refusal::Differs(differences));
            }
            if let Gate::Approval(_) = plan.content.gate
                && engine.used_for(plan, &request.secrets).await?.iter().all(|used| used != rollout)
            {
                return Err(Refusal::NotItsApproval);
            }
            // What another process has written meanwhile, up to the moment at which it lost the lock.
            let history = engine.history(application, rollout).await?.unwrap_or(history);
            let planning = engine.rejoin(plan, request, entered, &history).await;
            if let Some(why) = engine.halted().await {
                engine.discard(planning.ready).await;
                return Err(Refusal::Halted(why));
            }
            if let Err(fault) = engine.begin_journal(rollout, &planning).await {
                engine.discard(planning.ready).await;
                return Err(fault.into());
            }
            engine.started(rollout, plan);
            Ok(engine.execute(Some(rollout.to_owned()), planning, request).await)
        });
        done.await.map_err(Refusal::Locked)?
    }

    /// Uses the plan's approval up for a rollout, if there is anything to execute. What opened the way is weighed
    /// again: this run may have waited long for the lock.
    pub(super) async fn begin(
        &self,
        execution: &Execution<'_>,
        rollout: Option<&str>,
        planning: &Planning,
    ) -> Result<(), Refusal> {
        let Execution { plan, request, before, .. } = execution;
        let Content { application, release, .. } = &plan.content;
        if let (Gate::Approval(policy), Some(_)) = (&plan.content.gate, rollout) {
            // Somebody may have planned the same in between, and is a planner too.
            let now = self.read_plan(application, plan.digest, &request.secrets).await?;
            let now = now.as_ref().unwrap_or(plan);
            let standing = if now.round == plan.round {
                self.standing(now, policy, &request.secrets).await?
            } else {
                Standing::Unfit("it was planned again meanwhile, and asks anew".to_owned())
            };
            if !matches!(standing, Standing::Approved(_)) {
                return Err(Refusal::Shut(standing));
            }
        }
        if let Some((stage, targets)) = before
            && !self.has_finished(application, stage, targets.clone(), release).await?
        {
            return Err(Refusal::Unproven { release: release.clone(), stage: stage.clone() });
        }
        if let Some(rollout) = rollout {
            self.begin_journal(rollout, planning).await?;
        }
        if let Some(why) = self.halted().await {
            return Err(Refusal::Halted(why));
        }
        self.withdraw_proofs(plan).await?;
        let Some(rollout) = rollout else { return Ok(()) };
        self.use_up(plan, rollout).await?;
        self.started(rollout, plan);
        Ok(())
    }

    pub(super) fn started(&self, rollout: &str, plan: &Plan) {
        let (rollout, plan, fence) = (rollout.to_owned(), plan.digest, self.fence());
        self.events.emit(Event::RolloutStarted { rollout, plan, fence });
    }

    /// Applies a planning and keeps what happens and how it ended.
    async fn execute(&self, rollout: Option<String>, planning: Planning, request: &PlanRequest) -> RolledOut {
        let plan = planning.plan.clone();
        let begun = self.events.now();
        let Applied { finished, alarm } = match &rollout {
            Some(rollout) => {
                let application = &plan.content.application;
                let apply = async |engine: Engine| engine.apply(rollout, planning, request).await;
                self.journalled(application, rollout, &request.secrets, apply).await
            }
            None => self.apply("", planning, request).await,
        };
        let exit = match alarm {
            Some(_) => Exit::Failed,
            None => Exit::of(finished.iter().map(|(_, outcome)| outcome), plan.content.tolerated()),
        };
        self.keep_rollout(rollout.as_deref(), &plan, &request.secrets, begun, &finished, exit).await;
        RolledOut { rollout, all: Some((finished.clone(), exit)), finished, exit }
    }

    /// Returns how every target of a plan ended before a rollout was interrupted, where that is for good.
    pub(super) fn ended(history: &History) -> BTreeMap<TargetId, Outcome> {
        let for_good = |outcome: &Outcome| !matches!(outcome, Outcome::Detached(_) | Outcome::Skipped(_));
        let outcomes = history.outcomes.iter().filter(|(_, outcome)| for_good(outcome));
        outcomes.map(|(target, outcome)| (target.clone(), outcome.clone())).collect()
    }
}
