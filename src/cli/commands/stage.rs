//! What plan, apply and deploy do alike to one stage.

use std::time::Duration;

use super::answer::{StageAnswer, StageEnd};
use crate::cli::error::CommandError;
use crate::config::StageConfig;
use crate::domain::{Exit, Failure, Outcome};
use crate::engine::{Engine, Entered, LockError, PlanRequest, Planning};
use crate::event::Event;
use crate::plan::Plan;

/// Keeps a plan, or clears it away where it cannot be kept: nobody could apply it.
pub async fn keep(engine: &Engine, planning: &mut Planning, request: &PlanRequest) -> Result<(), CommandError> {
    if let Err(fault) = engine.keep_plan(&mut planning.plan, &request.secrets).await {
        engine.discard(planning.ready.clone()).await;
        return Err(fault.into());
    }
    Ok(())
}

/// Writes the ledger, and verifies what may never have been, where no stack has to change.
pub async fn settle(engine: &Engine, plan: &Plan, request: &PlanRequest, planning: Planning) -> StageEnd {
    let begun = engine.events.now();
    let finished = engine.apply(planning, &request.release).await;
    let exit = Exit::of(finished.iter().map(|(_, outcome)| outcome), plan.content.tolerated());
    engine.keep_rollout(None, plan, begun, &finished, exit).await;
    StageEnd { answer: StageAnswer::new(&plan.content.stage, Some(plan), exit, finished), exit, next: None }
}

/// Under the stage's lock: compares the plan with what would happen now, uses its approval up, and executes it.
/// `rest` are the outcomes that planning has found already, where this run has planned.
pub async fn execute(
    engine: &Engine,
    stage: &StageConfig,
    plan: &Plan,
    request: &PlanRequest,
    entered: Vec<Entered>,
    rest: Option<Planning>,
    wait: Option<Duration>,
) -> StageEnd {
    let application = &request.release.application;
    let wait = wait.unwrap_or_default();
    let done = engine.locked(application, &stage.name, wait, async |engine| {
        let rechecked = match engine.recheck(plan, request, entered).await {
            Ok(rechecked) => rechecked,
            Err(_) if engine.stop.is_requested() => {
                let next = CommandError::usage("the run was stopped before anything was executed");
                return StageEnd::idle(stage, Some(plan), Exit::Detached, next);
            }
            Err(differences) => {
                let message =
                    format!("plan {} is not what would happen now: {}", plan.digest.short(), differences.join("; "));
                let next = CommandError::usage(message).hint("nothing was executed: plan again, which asks again");
                return StageEnd::idle(stage, Some(plan), Exit::Refused, next);
            }
        };
        let planning = match rest {
            Some(Planning { unchanged, settled, .. }) => Planning { unchanged, settled, ..rechecked },
            None => rechecked,
        };
        let rollout = engine.rollout_id(&stage.name);
        if let Err(fault) = engine.use_up(plan, &stage.gate, &rollout).await {
            return StageEnd::idle(stage, Some(plan), Exit::Refused, CommandError::from(fault));
        }
        let fence = engine.lease.as_ref().map_or(0, |lease| lease.fence);
        engine.events.emit(Event::RolloutStarted { rollout: rollout.clone(), plan: plan.digest, fence });
        let begun = engine.events.now();
        let finished = engine.apply(planning, &request.release).await;
        let exit = Exit::of(finished.iter().map(|(_, outcome)| outcome), plan.content.tolerated());
        engine.keep_rollout(Some(&rollout), plan, begun, &finished, exit).await;
        let mut answer = StageAnswer::new(&stage.name, Some(plan), exit, finished);
        answer.rollout = Some(rollout);
        StageEnd { answer, exit, next: None }
    });
    done.await.unwrap_or_else(|error| {
        let (exit, next) = locked_out(&stage.name, error);
        StageEnd::idle(stage, Some(plan), exit, next)
    })
}

/// Says why a stage's lock could not be had.
pub fn locked_out(stage: &str, error: LockError) -> (Exit, CommandError) {
    match error {
        LockError::Taken(lock) => {
            let message = format!(
                "{} holds the lock of {stage} since {:.0}, and was last heard of {:.0}",
                lock.owner, lock.since, lock.renewed
            );
            let hint = format!(
                "wait for it with --wait-for-lock 30m; if that run is dead, its lock falls to the next one after two \
                 minutes, or is taken away with `tenantry unlock --stage {stage} {}`",
                lock.id
            );
            (Exit::Refused, CommandError::usage(message).hint(hint))
        }
        LockError::Stopped => (Exit::Detached, CommandError::usage("the run was stopped before anything was executed")),
        LockError::Fault(fault) => (Exit::Usage, fault.into()),
    }
}

/// Returns what the process answers: a run that was stopped has not failed.
pub fn stopped_or(engine: &Engine, exit: Exit) -> Exit {
    if engine.stop.is_requested() { Exit::Detached } else { exit }
}

/// Tells whether so many accounts cannot be entered that nothing should be started.
pub fn is_hopeless(stage: &StageConfig, entered: &[Entered]) -> bool {
    let failures = entered.iter().filter(|entered| entered.account.is_err()).count();
    failures > stage.rollout.failure_tolerance.of(entered.len())
}

/// Ends a stage whose accounts cannot be entered, before anything was changed.
pub fn not_begun(engine: &Engine, stage: &StageConfig, entered: Vec<Entered>) -> StageEnd {
    let why = "nothing was changed, since too many other accounts cannot be entered";
    let end = |Entered { target, account }: Entered| {
        let outcome = match account {
            Err(failure) => Outcome::Failed(failure),
            Ok(_) => Outcome::Skipped(Failure::because(why)),
        };
        engine.events.emit(Event::Finished { target: target.id.clone(), outcome: outcome.clone() });
        (target.id, outcome)
    };
    let finished: Vec<_> = entered.into_iter().map(end).collect();
    let exit = stopped_or(engine, Exit::of(finished.iter().map(|(_, outcome)| outcome), 0));
    StageEnd { answer: StageAnswer::new(&stage.name, None, exit, finished), exit, next: None }
}
