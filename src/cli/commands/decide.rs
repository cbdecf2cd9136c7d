//! `tenantry approve`, `tenantry reject`.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Serialize;

use super::gate::record;
use crate::cli::error::CommandError;
use crate::cli::workspace::{Run, Workspace};
use crate::domain::{ApprovalPolicy, Digest, Exit, FaultKind, Gate};
use crate::engine::Engine;
use crate::event::Event;
use crate::gate::{Decided, answered};
use crate::plan::{Decision, Plan, Standing, may_approve};

/// What somebody wants to say about a plan.
pub struct Wish {
    /// What.
    pub decision: Decision,
    /// What they have to say.
    pub comment: Option<String>,
    /// For how long it shall hold.
    pub expires: Option<Duration>,
    /// Whose answer it is, where that is a pipeline's.
    pub pipeline: Option<FromPipeline>,
}

/// Which pipeline to ask; that of this build where nothing is said.
pub struct FromPipeline {
    /// Its name.
    pub name: Option<String>,
    /// The execution's id.
    pub execution: Option<String>,
}

/// How a plan stands after a decision.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Answer {
    plan_digest: Digest,
    stage: String,
    standing: String,
    #[serde(skip)]
    exit: Exit,
}

/// Records a decision on a plan, and tells how the plan stands then.
pub async fn decide(workspace: Workspace, digest: Digest, wish: Wish) -> Result<Exit, CommandError> {
    workspace
        .conduct(
            async |run| {
                let Run { project, engine, .. } = run;
                let plan = read_plan(engine, &project.application, digest).await?;
                let stage = project.stage(&plan.content.stage)?;
                let Gate::Approval(policy) = &stage.gate else {
                    let error = CommandError::usage(format!("stage {} needs no approval", stage.name));
                    return Err(error.hint("its gate is open: `tenantry apply` executes the plan"));
                };
                engine.events.emit(Event::Planned { plan: Box::new(plan.clone()) });
                let secrets = engine.secrets(&project.application, BTreeSet::new()).await?;
                match engine.standing(&plan, policy, &secrets).await? {
                    Standing::Rejected(why) => {
                        return Err(CommandError::usage(format!("the plan was refused {why}")).exit(Exit::Refused));
                    }
                    Standing::Unfit(why) => {
                        return Err(
                            CommandError::usage(format!("this plan cannot be decided on: {why}")).exit(Exit::Refused)
                        );
                    }
                    Standing::Approved(_) | Standing::Waiting(..) => {}
                }
                let expires = wish.expires;
                let decided = wished(run, &plan, policy, wish).await?;
                let decision = decided.decision.clone();
                let new = record(run, policy, &plan, &secrets, decided, expires).await?;
                let (standing, exit) = match (decision, engine.standing(&plan, policy, &secrets).await?) {
                    (Decision::Rejected { .. }, standing) => (told(&standing), Exit::Done),
                    (Decision::Approved, standing @ (Standing::Approved(_) | Standing::Waiting(_, _))) => {
                        let again = if new { "" } else { " (this approval was there already)" };
                        (format!("{}{again}", told(&standing)), Exit::Done)
                    }
                    (Decision::Approved, standing) => (told(&standing), Exit::Refused),
                };
                Ok(Answer { plan_digest: digest, stage: stage.name.clone(), standing, exit })
            },
            |console, answer| {
                let text = format!("plan {} for {}: {}", answer.plan_digest.short(), answer.stage, answer.standing);
                console.answer(&text, &answer)?;
                Ok(answer.exit)
            },
        )
        .await
}

fn told(standing: &Standing) -> String {
    match standing {
        Standing::Approved(by) => format!("approved by {by}"),
        Standing::Rejected(why) => format!("refused {why}"),
        Standing::Unfit(why) => why.clone(),
        Standing::Waiting(missing, reasons) if reasons.is_empty() => format!("waits for {missing} more to approve"),
        Standing::Waiting(missing, reasons) => format!("waits for {missing} more to approve; {}", reasons.join("; ")),
    }
}

/// Returns what is decided and by whom, unless it would not count.
async fn wished(run: &Run<'_>, plan: &Plan, policy: &ApprovalPolicy, wish: Wish) -> Result<Decided, CommandError> {
    let Wish { decision, comment, pipeline, .. } = wish;
    let decided = match pipeline {
        None => Decided { decision, by: run.engine.by.clone(), via: "command", at: None, comment },
        Some(FromPipeline { name, execution }) => {
            let missing =
                |what: &str| CommandError::usage(format!("which {what} is meant cannot be told from this build"));
            let name = name.or_else(|| run.environment.pipeline.clone());
            let name = name.ok_or_else(|| missing("pipeline").hint("name it with --pipeline"))?;
            let execution = execution.or_else(|| run.environment.pipeline_execution.clone());
            let execution = execution.ok_or_else(|| {
                missing("execution of the pipeline")
                    .hint("set TENANTRY_PIPELINE_EXECUTION_ID to #{codepipeline.PipelineExecutionId} in the action")
            })?;
            let answers = run.tooling.pipeline_answers(&name, &execution).await?;
            answered(&answers, plan.digest).ok_or_else(|| {
                let message = format!(
                    "no approval action of execution {execution} of {name} has an answer to plan {}",
                    plan.digest
                );
                CommandError::usage(message)
                    .exit(Exit::Waiting)
                    .hint("the action's comment (CustomData) has to show the plan's digest")
            })?
        }
    };
    if decided.decision == Decision::Approved
        && let Err(why) = may_approve(plan, policy, &decided.by)
    {
        let error = CommandError::usage(format!("the approval of {} {why}", decided.by));
        return Err(error.exit(Exit::Refused).hint("somebody else has to approve it"));
    }
    Ok(decided)
}

/// Reads a plan from the store.
pub async fn read_plan(engine: &Engine, application: &str, digest: Digest) -> Result<Plan, CommandError> {
    let plan = engine.read_plan(application, digest).await.map_err(|fault| {
        let refused = fault.kind == FaultKind::Mismatch;
        let error = CommandError::from(fault);
        if refused { error.exit(Exit::Refused).hint("plan again") } else { error }
    })?;
    plan.ok_or_else(|| {
        CommandError::usage(format!("there is no plan {digest}"))
            .hint("make one with `tenantry plan`, which prints its digest")
    })
}
