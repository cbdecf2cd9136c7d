//! What is out there: looking at it, bringing it back, and taking it away.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::cli::console::Console;
use crate::cli::error::CommandError;
use crate::cli::workspace::{Run, Workspace};
use crate::config::StageConfig;
use crate::domain::{Exit, Outcome, Quota, Target, TargetId};
use crate::engine::{LockError, Stuck, TargetStatus};
use crate::event::Event;
use crate::plan::Selection;
use crate::report;
use crate::report::text::count;

use super::answer::StageAnswer;
use super::deploy::all_targets;
use super::stage::locked_out;
use super::subject::narrow;

/// Shows what each target runs.
pub async fn status(
    workspace: Workspace,
    stage: Option<&str>,
    drift: bool,
    selection: Selection,
) -> Result<Exit, CommandError> {
    let stages = workspace.project.stages_or(stage)?;
    workspace.project.check_selection(&stages, &selection)?;
    workspace
        .conduct(
            async |run| {
                let Run { project, engine, .. } = run;
                let mut all: Vec<TargetStatus> = Vec::new();
                for stage in &stages {
                    let targets = selected(run, stage, &selection).await?;
                    let shown: BTreeSet<TargetId> = targets.iter().map(|target| target.id.clone()).collect();
                    let others = all_targets(project, stage)?.into_iter().filter(|id| !shown.contains(id)).collect();
                    let entered = engine.enter(&stage.name, targets).await;
                    all.extend(engine.status(&project.application, &stage.name, entered, others, drift).await);
                }
                Ok((all, engine.events.now()))
            },
            |console, (all, now)| {
                console.answer(&report::status(&all, now), &all)?;
                let unread = all.iter().any(|target| target.problem.is_some());
                Ok(if unread { Exit::Failed } else { Exit::Done })
            },
        )
        .await
}

/// Deletes the stacks of the selected targets, after somebody has confirmed it.
pub async fn destroy(
    workspace: Workspace,
    stage: &str,
    selection: Selection,
    confirm: Option<String>,
) -> Result<Exit, CommandError> {
    let stage = workspace.project.stage(stage)?.clone();
    workspace.project.check_selection(std::iter::once(&stage), &selection)?;
    let tolerance = stage.rollout.failure_tolerance;
    let name = stage.name.clone();
    workspace
        .conduct(
            async |run| {
                let Run { project, engine, .. } = run;
                let targets = selected(run, &stage, &selection).await?;
                let total = count(targets.len(), "target");
                for target in &targets {
                    let pin = target.pin.as_ref().map(|pin| format!(", which is pinned to {pin},")).unwrap_or_default();
                    let message = format!(
                        "{}: stack {} in account {}{pin} would be deleted",
                        target.id, target.stack, target.account
                    );
                    engine.events.emit(Event::Notice { message });
                }
                confirmed(run, &stage, confirm, &format!("delete the stacks of {total}")).await?;
                let application = &project.application;
                let destroyed = engine.locked(application, &stage.name, Duration::ZERO, async |engine| {
                    let entered = engine.enter(&stage.name, targets).await;
                    engine.destroy(application, &stage.name, stage.rollout.clone(), entered).await
                });
                destroyed.await.map_err(|error| without_lock(&stage, error))
            },
            |console, finished| answer(console, &name, tolerance, finished),
        )
        .await
}

/// Goes on with rollbacks that have failed, after somebody has seen which resources are in the way.
pub async fn recover(
    workspace: Workspace,
    stage: &str,
    selection: Selection,
    skip: Vec<String>,
    confirm: Option<String>,
) -> Result<Exit, CommandError> {
    let stage = workspace.project.stage(stage)?.clone();
    workspace.project.check_selection(std::iter::once(&stage), &selection)?;
    let name = stage.name.clone();
    workspace
        .conduct(
            async |run| {
                let Run { project, engine, .. } = run;
                let targets = selected(run, &stage, &selection).await?;
                let entered = engine.enter(&stage.name, targets).await;
                let recovered = engine.locked(&project.application, &stage.name, Duration::ZERO, async |engine| {
                    let (stuck, unread) = engine.stuck(entered).await;
                    // What nobody has looked at is no failure to be tolerated.
                    let tolerance = if unread.is_empty() { stage.rollout.failure_tolerance } else { Quota::Count(0) };
                    for (target, failure) in unread.iter().filter_map(|(target, ended)| Some((target, ended.failure()?))) {
                        engine.events.notice(format!("{target}: {failure}"));
                    }
                    for Stuck { entered, resources, .. } in &stuck {
                        if resources.is_empty() {
                            let why = "its rollback has failed, and no event says at which resource";
                            engine.events.notice(format!("{}: {why}", entered.target.id));
                        }
                        for held in resources {
                            let left = skip.iter().any(|name| held.is(name));
                            let what = if left { "will be left as it is" } else { "will be tried again" };
                            engine.events.notice(format!("{}: {}; it {what}", entered.target.id, held.failure));
                        }
                    }
                    let held = || stuck.iter().flat_map(|one| &one.resources);
                    let unknown: Vec<&str> =
                        skip.iter().map(String::as_str).filter(|name| !held().any(|held| held.is(name))).collect();
                    if !unknown.is_empty() && !stuck.is_empty() {
                        let known = if unread.is_empty() { "" } else { " in the targets that could be looked at" };
                        let message = format!("there is nothing to skip by the name of {}{known}", unknown.join(", "));
                        let hint = "`--skip` takes resources whose rollback has failed, as they are named above; a nested stack \
                                    can only be skipped where it is being or was deleted";
                        return Err(CommandError::usage(message).hint(hint));
                    }
                    if stuck.is_empty() {
                        engine.events.notice(if unread.is_empty() {
                            "no rollback has failed: there is nothing to recover"
                        } else {
                            "no rollback is known to have failed; not all targets could be looked at"
                        });
                        return Ok((unread, tolerance));
                    }
                    let total = count(stuck.len(), "target");
                    confirmed(run, &stage, confirm, &format!("go on with the rollback of {total}")).await?;
                    let recovered = engine.recover(&stage.name, stage.rollout.clone(), stuck, &skip).await;
                    Ok((recovered.into_iter().chain(unread).collect(), tolerance))
                });
                recovered.await.map_err(|error| without_lock(&stage, error))?
            },
            |console, (finished, tolerance)| answer(console, &name, tolerance, finished),
        )
        .await
}

/// Returns the selected targets of a stage, whatever is released to them.
pub async fn selected(run: &Run<'_>, stage: &StageConfig, selection: &Selection) -> Result<Vec<Target>, CommandError> {
    let targets = run.project.targets(stage, &run.project.release_to_come(), selection)?;
    Ok(narrow(run, stage, targets, selection.clone()).await?.0)
}

/// Returns why nothing was done, where the stage's lock could not be had.
fn without_lock(stage: &StageConfig, error: LockError) -> CommandError {
    let (exit, error) = locked_out(&stage.name, error);
    error.exit(exit)
}

/// Asks for a confirmation by the stage's name, unless it was given.
async fn confirmed(run: &Run<'_>, stage: &StageConfig, given: Option<String>, what: &str) -> Result<(), CommandError> {
    let question = format!("Type `{}` to {what}, anything else to leave them:", stage.name);
    let given = match given {
        Some(given) => Some(given),
        None => run.console.ask(&run.engine.events, question).await,
    };
    match given.as_deref().map(str::trim) {
        Some(given) if given == stage.name => Ok(()),
        Some(_) => Err(CommandError::usage("nothing was done: it was not confirmed").exit(Exit::Refused)),
        None => {
            let error = CommandError::usage(format!("nobody has confirmed to {what}"));
            Err(error.exit(Exit::Waiting).hint(format!("add `--confirm {}`", stage.name)))
        }
    }
}

/// Tells how targets have ended.
fn answer(
    console: &Console,
    stage: &str,
    tolerance: Quota,
    finished: Vec<(TargetId, Outcome)>,
) -> Result<Exit, CommandError> {
    let exit = Exit::of(finished.iter().map(|(_, outcome)| outcome), tolerance.of(finished.len()));
    let answer = StageAnswer::new(stage, None, exit, finished);
    console.answer(&report::results(&answer.stage, &answer.finished(), exit), &answer)?;
    Ok(exit)
}
