//! `tenantry deploy`.

use super::answer::{Answer, StageAnswer, StageEnd};
use super::stage::{execute, is_hopeless, keep, not_begun, pass_gate, stopped_or};
use super::subject::Subject;
use crate::cli::console::Console;
use crate::cli::error::CommandError;
use crate::cli::workspace::Workspace;
use crate::config::StageConfig;
use crate::domain::{Digest, Exit, Release};
use crate::engine::{Engine, Entered, Planning};
use crate::event::Event;
use crate::plan::{Secrets, Selection};

/// Packages once, then plans, gates and applies stage by stage.
pub async fn deploy(
    workspace: Workspace,
    only: Option<&str>,
    selection: Selection,
    approvals: Vec<Digest>,
) -> Result<Exit, CommandError> {
    let stages = workspace.project.stages_or(only)?;
    workspace.project.check_selection(&stages, &selection)?;
    workspace
        .conduct(
            async |project, engine, console, environment| {
                let mut subject = Subject::of_folder(project, environment, engine)?;
                let mut answer = Answer::new(&subject.release);

                // Every account of every stage first: what is wrong there is known before anything is changed.
                let mut entered = Vec::new();
                for stage in &stages {
                    entered.push(engine.enter(&stage.name, subject.targets(project, engine, stage, &selection)?).await);
                }
                for (stage, entered) in stages.iter().zip(&mut entered) {
                    if is_hopeless(stage, entered) {
                        answer.add(not_begun(engine, stage, std::mem::take(entered)));
                    }
                }
                if answer.exit != Exit::Done {
                    return Ok(answer);
                }
                subject.publish(engine).await?;
                let secrets = subject.secrets(engine).await?;
                let pass = Pass { engine, console, release: &subject.release, secrets: &secrets };
                for (stage, entered) in stages.iter().zip(entered) {
                    let end = pass.stage(stage, entered, &selection, &approvals).await;
                    if !answer.add(end.unwrap_or_else(|error| StageEnd::idle(stage, None, Exit::Failed, error))) {
                        break;
                    }
                }
                Ok(answer)
            },
            |console, answer| answer.give(console),
        )
        .await
}

/// What all stages of a deployment share.
struct Pass<'a> {
    engine: &'a Engine,
    console: &'a Console,
    release: &'a Release,
    secrets: &'a Secrets,
}

impl Pass<'_> {
    /// Plans a stage, passes its gate and applies.
    async fn stage(
        &self,
        stage: &StageConfig,
        entered: Vec<Entered>,
        selection: &Selection,
        approvals: &[Digest],
    ) -> Result<StageEnd, CommandError> {
        let Self { engine, console, release, secrets } = *self;
        let planning = engine.plan(&stage.name, release, stage.rollout, entered, secrets, selection.clone()).await;
        let plan = planning.plan.clone();
        if engine.stop.is_requested() || planning.is_beyond_tolerance() {
            let finished = planning.outcomes();
            let exit = stopped_or(engine, Exit::of(finished.iter().map(|(_, outcome)| outcome), 0));
            return Ok(StageEnd { answer: StageAnswer::new(&stage.name, None, exit, finished), exit, next: None });
        }
        if planning.ready.is_empty() {
            // Nothing to approve: the ledger learns of the release, and that is all.
            return Ok(execute(engine, stage, &plan, release, Ok(planning)).await);
        }
        keep(engine, &planning).await?;
        engine.events.emit(Event::Planned { plan: Box::new(plan.clone()) });
        if let Err(end) = pass_gate(engine, console, stage, &plan, approvals.to_vec()).await {
            if end.refused {
                engine.discard(planning.ready).await;
            }
            return Ok(end.stage);
        }
        let rechecked = engine.recheck(&plan, release, planning.entered(), secrets).await;
        let Planning { unchanged, settled, .. } = planning;
        let rechecked = rechecked.map(|rechecked| Planning { unchanged, settled, ..rechecked });
        Ok(execute(engine, stage, &plan, release, rechecked).await)
    }
}
