//! `tenantry apply`.

use super::answer::Answer;
use super::stage::{execute, pass_gate};
use super::subject::Subject;
use crate::cli::error::CommandError;
use crate::cli::workspace::Workspace;
use crate::domain::{Digest, Exit, FaultKind};
use crate::event::Event;

/// Applies a plan that was made before.
pub async fn apply(workspace: Workspace, digest: Digest, approvals: Vec<Digest>) -> Result<Exit, CommandError> {
    workspace
        .conduct(
            async |project, engine, console, _| {
                let plan = engine.read_plan(&project.application, digest).await.map_err(|fault| {
                    let refused = fault.kind == FaultKind::Mismatch;
                    let error = CommandError::from(fault);
                    if refused { error.exit(Exit::Refused).hint("plan again") } else { error }
                })?;
                let plan = plan.ok_or_else(|| {
                    CommandError::usage(format!("there is no plan {digest}"))
                        .hint("make one with `tenantry plan`, which prints its digest")
                })?;
                let stage = project.stage(&plan.content.stage)?.clone();
                let subject = Subject::of_release(project, engine, plan.content.release.as_str()).await?;
                let secrets = subject.secrets(engine).await?;
                let targets = subject.targets(project, engine, &stage, &plan.selection)?;
                let release = subject.release;
                engine.events.emit(Event::Planned { plan: Box::new(plan.clone()) });

                let mut answer = Answer::new(&release);
                if let Err(end) = pass_gate(engine, console, &stage, &plan, approvals).await {
                    answer.add(end.stage);
                    return Ok(answer);
                }
                let entered = engine.enter(&stage.name, targets).await;
                let rechecked = engine.recheck(&plan, &release, entered, &secrets).await;
                answer.add(execute(engine, &stage, &plan, &release, rechecked).await);
                Ok(answer)
            },
            |console, answer| answer.give(console),
        )
        .await
}
