//! What is out there: looking at it, and taking it away.

use std::time::Duration;

use crate::cli::error::CommandError;
use crate::cli::workspace::{Run, Workspace};
use crate::domain::{Exit, Outcome, TargetId};
use crate::engine::TargetStatus;
use crate::event::Event;
use crate::plan::Selection;
use crate::report;
use crate::report::text::count;

use super::answer::StageAnswer;
use super::stage::locked_out;
use super::subject::narrow;

/// Shows what each target runs.
pub async fn status(workspace: Workspace, stage: Option<&str>, selection: Selection) -> Result<Exit, CommandError> {
    let stages = workspace.project.stages_or(stage)?;
    workspace.project.check_selection(&stages, &selection)?;
    workspace
        .conduct(
            async |run| {
                let Run { project, engine, .. } = run;
                let mut all: Vec<TargetStatus> = Vec::new();
                for stage in &stages {
                    let targets = project.targets(stage, &project.release_to_come(), &selection)?;
                    let (targets, _) = narrow(run, stage, targets, selection.clone()).await?;
                    let entered = engine.enter(&stage.name, targets).await;
                    all.extend(engine.status(&project.application, &stage.name, entered).await);
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
                let Run { project, engine, console, .. } = run;
                let targets = project.targets(&stage, &project.release_to_come(), &selection)?;
                let (targets, _) = narrow(run, &stage, targets, selection.clone()).await?;
                let total = count(targets.len(), "target");
                for target in &targets {
                    let message = format!("{}: stack {} in account {} would be deleted", target.id, target.stack, target.account);
                    engine.events.emit(Event::Notice { message });
                }
                let question = format!("Type `{}` to delete the stacks of {total}, anything else to leave them:", stage.name);
                let confirmed = match confirm {
                    Some(given) => Some(given),
                    None => console.ask(&engine.events, question).await,
                };
                match confirmed.as_deref().map(str::trim) {
                    Some(given) if given == stage.name => {}
                    Some(_) => return Err(CommandError::usage("nothing was deleted: it was not confirmed").exit(Exit::Refused)),
                    None => {
                        let error = CommandError::usage(format!("deleting the stacks of {total} has to be confirmed"));
                        return Err(error.exit(Exit::Waiting).hint(format!("add `--confirm {}`", stage.name)));
                    }
                }
                let application = &project.application;
                let destroyed = engine.locked(application, &stage.name, Duration::ZERO, async |engine| {
                    let entered = engine.enter(&stage.name, targets).await;
                    engine.destroy(application, &stage.name, stage.rollout, entered).await
                });
                destroyed.await.map_err(|error| {
                    let (exit, error) = locked_out(&stage.name, error);
                    error.exit(exit)
                })
            },
            |console, finished: Vec<(TargetId, Outcome)>| {
                let exit = Exit::of(finished.iter().map(|(_, outcome)| outcome), tolerance.of(finished.len()));
                let answer = StageAnswer::new(&name, None, exit, finished);
                console.answer(&report::results(&answer.stage, &answer.finished(), exit), &answer)?;
                Ok(exit)
            },
        )
        .await
}
