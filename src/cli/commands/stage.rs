//! What plan, apply and deploy do alike to one stage.

use std::sync::Arc;

use super::answer::{StageAnswer, StageEnd};
use super::gate::opened;
use super::notify;
use crate::cli::error::CommandError;
use crate::cli::workspace::Run;
use crate::config::StageConfig;
use crate::domain::{Exit, Failure, FaultKind, Outcome};
use crate::engine::{Engine, Entered, LockError, PlanRequest, Planning, Refusal, RolledOut};
use crate::event::Event;
use crate::plan::Plan;

/// Keeps a plan, or clears it away where it cannot be kept: nobody could apply it.
pub async fn keep(engine: &Engine, planning: &mut Planning, request: &PlanRequest) -> Result<(), CommandError> {
    if let Err(fault) = engine.keep_plan(Arc::make_mut(&mut planning.plan), &request.secrets).await {
        engine.discard(planning.ready.clone()).await;
        return Err(fault.into());
    }
    Ok(())
}

/// Returns how a stage ends by a rollout, or by its being refused; and tells those who are to be told.
pub async fn concluded(
    run: &Run<'_>,
    stage: &StageConfig,
    plan: &Plan,
    result: Result<RolledOut, Refusal>,
) -> StageEnd {
    let all = result.as_ref().ok().and_then(|done| done.all.clone());
    let end = ended(stage, plan, result);
    // The last of several shards tells how all have ended.
    if let Some((finished, exit)) = all {
        let mut answer = StageAnswer::new(&stage.name, Some(plan), exit, finished);
        answer.rollout.clone_from(&end.answer.rollout);
        notify::ended(run, plan, &answer, notify::Whom::All).await;
    }
    end
}

/// Returns how a stage ends by a rollout, or by its being refused.
pub fn ended(stage: &StageConfig, plan: &Plan, result: Result<RolledOut, Refusal>) -> StageEnd {
    let idle = |exit, next| StageEnd::idle(stage, Some(plan), exit, next);
    let refused = |message: String| CommandError::usage(message);
    match result {
        Ok(RolledOut { rollout, finished, exit, .. }) => {
            let mut answer = StageAnswer::new(&stage.name, Some(plan), exit, finished);
            answer.rollout = rollout;
            StageEnd { answer, exit, next: None }
        }
        Err(Refusal::Locked(error)) => {
            let (exit, next) = locked_out(&stage.name, error);
            idle(exit, next)
        }
        Err(Refusal::Differs(differences)) => {
            let message =
                format!("plan {} is not what would happen now: {}", plan.digest.short(), differences.join("; "));
            idle(Exit::Refused, refused(message).hint("nothing was executed: plan again, which asks again"))
        }
        Err(Refusal::Shut(standing)) => match opened(stage, plan, standing) {
            Err(shut) => shut.stage,
            Ok(by) => idle(Exit::Refused, refused(format!("the plan is approved by {by}, and was not executed"))),
        },
        Err(Refusal::Unproven { release, stage: before }) => {
            let message = format!("release {release} counts as finished in {before} no longer");
            idle(Exit::Refused, refused(message).hint("the stage was rolled back since"))
        }
        Err(Refusal::Halted(why)) => idle(Exit::Detached, refused(format!("{why} before anything was executed"))),
        Err(Refusal::NotItsApproval) => {
            let message = "the plan's approval was not used for this rollout".to_owned();
            idle(Exit::Refused, refused(message).hint("it never began: apply the plan"))
        }
        Err(Refusal::Fault(fault)) => {
            let exit = if fault.kind == FaultKind::Conflict { Exit::Refused } else { Exit::Usage };
            idle(exit, fault.into())
        }
    }
}

/// Says why a stage's lock could not be had.
pub fn locked_out(stage: &str, error: LockError) -> (Exit, CommandError) {
    match error {
        LockError::Taken(lock, shard) => {
            let of = shard.map(|shard| format!("shard {shard} of ")).unwrap_or_default();
            let option = shard.map(|shard| format!(" --shard {shard}")).unwrap_or_default();
            let message = format!(
                "{} holds the lock of {of}{stage} since {:.0}, and was last heard of {:.0}",
                lock.owner, lock.since, lock.renewed
            );
            let hint = format!(
                "wait for it with --wait-for-lock 30m; if that run is dead, its lock falls to the next one after a \
                 few minutes, or is taken away with `tenantry unlock --stage {stage}{option} {}`",
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
