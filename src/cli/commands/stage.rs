//! What plan, apply and deploy do alike to one stage.

use super::answer::{StageAnswer, StageEnd};
use crate::cli::console::Console;
use crate::cli::error::CommandError;
use crate::config::StageConfig;
use crate::domain::{Digest, Exit, Failure, Gate, Outcome, Release};
use crate::engine::{Engine, Entered, Planning};
use crate::event::Event;
use crate::gate::Given;
use crate::plan::Plan;
use crate::ports::{Approvals as _, Verdict};

/// Keeps a plan, or clears it away where it cannot be kept: nobody could apply it.
pub async fn keep(engine: &Engine, planning: &Planning) -> Result<(), CommandError> {
    if let Err(fault) = engine.keep_plan(&planning.plan).await {
        engine.discard(planning.ready.clone()).await;
        return Err(fault.into());
    }
    Ok(())
}

/// Applies what was checked, or says why not.
pub async fn execute(
    engine: &Engine,
    stage: &StageConfig,
    plan: &Plan,
    release: &Release,
    rechecked: Result<Planning, Vec<String>>,
) -> StageEnd {
    match rechecked {
        Ok(planning) => {
            let finished = engine.apply(planning, release).await;
            let exit = Exit::of(finished.iter().map(|(_, outcome)| outcome), plan.content.tolerated());
            StageEnd { answer: StageAnswer::new(&stage.name, Some(plan), exit, finished), exit, next: None }
        }
        Err(_) if engine.stop.is_requested() => {
            let next = CommandError::usage("the run was stopped before anything was executed");
            StageEnd::idle(stage, Some(plan), Exit::Detached, next)
        }
        Err(differences) => {
            let message =
                format!("plan {} is not what would happen now: {}", plan.digest.short(), differences.join("; "));
            let next = CommandError::usage(message).hint("nothing was executed: plan again");
            StageEnd::idle(stage, Some(plan), Exit::Refused, next)
        }
    }
}

/// A gate that stays shut.
pub struct Shut {
    /// How the stage ends by it.
    pub stage: StageEnd,
    /// Whether somebody has decided so, and the change sets are of no more use.
    pub refused: bool,
}

/// Asks for an approval where the stage wants one.
pub async fn pass_gate(
    engine: &Engine,
    console: &Console,
    stage: &StageConfig,
    plan: &Plan,
    given: Vec<Digest>,
) -> Result<(), Box<Shut>> {
    if stage.gate == Gate::Open {
        return Ok(());
    }
    let mut verdict = Given(given).decide(plan).await;
    if let (Verdict::Waiting, Some(terminal)) = (&verdict, console.terminal(&engine.events)) {
        let answer = terminal.decide(plan);
        verdict = tokio::select! {
            verdict = answer => verdict,
            () = engine.stop.requested() => Verdict::Waiting,
        };
    }
    let digest = plan.digest;
    let command = format!("`tenantry apply {digest} --approve {digest}`");
    let (exit, refused, next) = match verdict {
        Verdict::Approved(by) => {
            engine.events.emit(Event::Approved { by });
            return Ok(());
        }
        Verdict::Refused(why) => {
            (Exit::Refused, true, CommandError::usage(format!("the plan for {} was refused: {why}", stage.name)))
        }
        Verdict::Unfit(why) => {
            let error = CommandError::usage(format!("the plan for {} is not approved: {why}", stage.name));
            (Exit::Refused, false, error.hint(format!("read this plan; then {command}")))
        }
        Verdict::Waiting => {
            let error = CommandError::usage(format!("the plan for {} waits for approval", stage.name));
            (Exit::Waiting, false, error.hint(format!("read it; then {command}")))
        }
    };
    Err(Box::new(Shut { stage: StageEnd::idle(stage, Some(plan), exit, next), refused }))
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
