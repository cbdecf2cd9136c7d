//! `tenantry apply`.

use super::answer::{Answer, StageEnd};
use super::decide::read_plan;
use super::gate::pass_gate;
use super::stage::execute;
use super::subject::Subject;
use crate::cli::args::Way;
use crate::cli::error::CommandError;
use crate::cli::workspace::{Run, Workspace};
use crate::domain::{Digest, Exit, FaultKind};
use crate::event::Event;

/// Applies a plan that was made before.
pub async fn apply(workspace: Workspace, digest: Digest, way: Way) -> Result<Exit, CommandError> {
    workspace
        .conduct(
            async |run| {
                let Run { project, engine, .. } = run;
                let plan = read_plan(engine, &project.application, digest).await?;
                let stage = project.stage(&plan.content.stage)?.clone();
                let subject = Subject::of_release(project, engine, plan.content.release.as_str()).await?;
                let secrets = subject.secrets(project, engine).await?;
                let scope = subject.scope(run, &stage, &plan.selection).await?;
                let request = subject.request(&stage, &scope, plan.content.origin.clone(), &secrets);
                engine.events.emit(Event::Planned { plan: Box::new(plan.clone()) });

                let mut answer = Answer::new(&subject.release);
                if let Err(end) = pass_gate(run, &stage, &plan, &secrets, &way).await {
                    answer.add(end.stage);
                    return Ok(answer);
                }
                if let Err(fault) = engine.verify_artifacts(&subject.release).await {
                    let exit = if fault.kind == FaultKind::Mismatch { Exit::Refused } else { Exit::Usage };
                    answer.add(StageEnd::idle(&stage, Some(&plan), exit, fault.into()));
                    return Ok(answer);
                }
                let entered = engine.enter(&stage.name, scope.targets).await;
                answer.add(execute(engine, &stage, &plan, &request, entered, None, way.wait_for_lock).await);
                Ok(answer)
            },
            |console, answer| answer.give(console),
        )
        .await
}
