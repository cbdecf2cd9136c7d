//! `tenantry plan`.

use serde::Serialize;

use super::answer::{Answer, StageAnswer, TargetAnswer, outputs};
use super::stage::{is_hopeless, keep, not_begun};
use super::subject::Subject;
use crate::cli::error::CommandError;
use crate::cli::workspace::Workspace;
use crate::domain::Exit;
use crate::plan::{Class, Plan, Selection, classes};
use crate::report;

/// What is planned, for `tenantry plan --output json`.
#[derive(Serialize)]
struct PlanAnswer<'a> {
    #[serde(flatten)]
    plan: &'a Plan,
    classes: Vec<Class>,
    settled: Vec<TargetAnswer>,
}

/// Plans one stage.
pub async fn plan(
    workspace: Workspace,
    stage: &str,
    known: Option<&str>,
    selection: Selection,
) -> Result<Exit, CommandError> {
    let stage = workspace.project.stage(stage)?.clone();
    workspace.project.check_selection(std::iter::once(&stage), &selection)?;
    workspace
        .conduct(
            async |project, engine, _, environment| {
                let mut subject = match known {
                    Some(id) => Subject::of_release(project, engine, id).await?,
                    None => Subject::of_folder(project, environment, engine)?,
                };
                let entered = engine.enter(&stage.name, subject.targets(project, engine, &stage, &selection)?).await;
                if is_hopeless(&stage, &entered) {
                    return Ok((subject.release, Err(not_begun(engine, &stage, entered))));
                }
                subject.publish(engine).await?;
                let secrets = subject.secrets(engine).await?;
                let release = subject.release;
                let planning = engine.plan(&stage.name, &release, stage.rollout, entered, &secrets, selection).await;
                if !planning.is_beyond_tolerance() && !engine.stop.is_requested() {
                    keep(engine, &planning).await?;
                }
                Ok((release, Ok(planning)))
            },
            |console, (release, planning)| {
                let planning = match planning {
                    Ok(planning) => planning,
                    Err(stage) => {
                        let mut answer = Answer::new(&release);
                        answer.add(stage);
                        return answer.give(console);
                    }
                };
                let finished = planning.outcomes();
                let exit = Exit::of(finished.iter().map(|(_, outcome)| outcome), planning.plan.content.tolerated());
                let failed: Vec<_> =
                    finished.iter().filter(|(_, outcome)| outcome.failure().is_some()).cloned().collect();
                let problems =
                    report::results(&format!("{}, not planned", planning.plan.content.stage), &failed, Exit::Failed);
                let text = match (exit, failed.as_slice()) {
                    (Exit::Done | Exit::Tolerated, []) => report::plan(&planning.plan),
                    (Exit::Done | Exit::Tolerated, _) => format!("{}\n\n{problems}", report::plan(&planning.plan)),
                    // Nobody can apply this plan: what there is to read is why.
                    _ => problems,
                };
                let stage =
                    StageAnswer::new(&planning.plan.content.stage, Some(&planning.plan), exit, finished.clone());
                let settled = finished.into_iter().map(|(target, outcome)| TargetAnswer { target, outcome }).collect();
                let data = PlanAnswer { plan: &planning.plan, classes: classes(&planning.plan.content), settled };
                console.answer(&text, &data)?;
                outputs(console, &release.id, &[stage])?;
                Ok(exit)
            },
        )
        .await
}
