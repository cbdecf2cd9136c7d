//! `tenantry plan`.

use serde::Serialize;

use super::answer::{Answer, StageAnswer, TargetAnswer, outputs, plan_outputs};
use super::deploy::promoted;
use super::stage::{is_hopeless, keep, not_begun};
use super::subject::Subject;
use crate::cli::error::CommandError;
use crate::cli::workspace::{Run, Workspace};
use crate::domain::Exit;
use crate::plan::{Class, Origin, Plan, Selection, classes};
use crate::report;

/// What is planned, for `--output json`.
#[derive(Serialize)]
pub struct PlanAnswer<'a> {
    #[serde(flatten)]
    plan: &'a Plan,
    classes: Vec<Class>,
    settled: Vec<TargetAnswer>,
}

impl<'a> PlanAnswer<'a> {
    /// A plan, and what has its outcome without it.
    pub fn new(plan: &'a Plan, settled: Vec<TargetAnswer>) -> Self {
        Self { plan, classes: classes(&plan.content), settled }
    }
}

/// Plans one stage.
pub async fn plan(
    workspace: Workspace,
    stage: &str,
    known: Option<&str>,
    promotes: bool,
    selection: Selection,
) -> Result<Exit, CommandError> {
    let stage = workspace.project.stage(stage)?.clone();
    workspace.project.check_selection(std::iter::once(&stage), &selection)?;
    let store = workspace.project.store.clone();
    workspace
        .conduct(
            async |run| {
                let Run { project, engine, .. } = run;
                let mut subject = match known {
                    Some(id) => Subject::of_release(run, id).await?,
                    None => Subject::of_folder(run)?,
                };
                let origin =
                    if promotes { promoted(run, &subject.release, &stage.name, false).await? } else { Origin::Direct };
                let mut scope = subject.scope(run, &stage, &selection).await?;
                let entered = engine.enter(&stage.name, std::mem::take(&mut scope.targets)).await;
                if is_hopeless(&stage, &entered) {
                    return Ok((subject.release, Err(not_begun(engine, &stage, entered))));
                }
                subject.publish(engine).await?;
                let secrets = subject.secrets(project, engine).await?;
                let request = subject.request(&stage, &scope, origin, &secrets);
                let mut planning = engine.plan(&request, entered).await;
                if !planning.is_beyond_tolerance() && !engine.stop.is_requested() {
                    keep(engine, &mut planning, &request).await?;
                }
                Ok((subject.release, Ok(planning)))
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
                let plan = &planning.plan;
                let finished = planning.outcomes();
                let exit = Exit::of(finished.iter().map(|(_, outcome)| outcome), plan.content.tolerated());
                let failed: Vec<_> =
                    finished.iter().filter(|(_, outcome)| outcome.failure().is_some()).cloned().collect();
                let problems = report::results(&format!("{}, not planned", plan.content.stage), &failed, Exit::Failed);
                let (text, markdown) = match (exit, failed.as_slice()) {
                    (Exit::Done | Exit::Tolerated, []) => (report::plan(plan), report::plan_in_markdown(plan)),
                    (Exit::Done | Exit::Tolerated, _) => {
                        let fenced = format!("```text\n{}\n```", anstream::adapter::strip_str(&problems));
                        (
                            format!("{}\n\n{problems}", report::plan(plan)),
                            format!("{}\n{fenced}", report::plan_in_markdown(plan)),
                        )
                    }
                    // Nobody can apply this plan: what there is to read is why.
                    _ => (problems.clone(), format!("```text\n{}\n```", anstream::adapter::strip_str(&problems))),
                };
                let stage = StageAnswer::new(&plan.content.stage, Some(plan), exit, finished.clone());
                let settled = finished.into_iter().map(|(target, outcome)| TargetAnswer { target, outcome }).collect();
                let data = PlanAnswer::new(plan, settled);
                console.answer_with(&text, || markdown, &data)?;
                outputs(console, &release.id, &[stage])?;
                plan_outputs(console, plan, &store)?;
                Ok(exit)
            },
        )
        .await
}
