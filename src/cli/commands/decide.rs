//! `tenantry approve`, `tenantry reject`.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::gate::{reviewers, taken};
use crate::cli::error::CommandError;
use crate::cli::workspace::{Run, Workspace};
use crate::domain::{ApprovalPolicy, Digest, Exit, FaultKind, Gate};
use crate::engine::Engine;
use crate::event::Event;
use crate::gate::{Decided, answered};
use crate::plan::{Decision, Plan, Secrets, Standing};
use crate::report::text::clean;

/// What somebody wants to say about a plan.
pub struct Wish {
    /// What.
    pub decision: Decision,
    /// What they have to say.
    pub comment: Option<String>,
    /// For how long it shall hold.
    pub expires: Option<Duration>,
    /// Whose answer it is.
    pub whose: Whose,
}

/// Who has decided.
pub enum Whose {
    /// Whoever runs this.
    Own,
    /// Whoever has answered a pipeline's approval action.
    Pipeline(FromPipeline),
    /// The reviewers of the workflow run's environment.
    Github,
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
                let secrets = Secrets::sealing(engine.digest_key(&project.application).await?);
                let plan = read_plan(engine, &project.application, digest, &secrets).await?;
                let stage = project.stage(&plan.content.stage)?;
                let Gate::Approval(policy) = &plan.content.gate else {
                    let error = CommandError::usage(format!("stage {} needs no approval", stage.name));
                    return Err(error.hint("its gate is open: `tenantry apply` executes the plan"));
                };
                engine.events.emit(Event::Planned { plan: plan.clone() });
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
                let decided = wished(run, policy, &plan, wish).await?;
                let refused = decided.iter().any(|one| matches!(one.decision, Decision::Rejected { .. }));
                let (mut fresh, mut taken_up, mut uncounted) = (false, false, Vec::new());
                // Every answer there is, so that none of them is left for another round.
                for one in decided {
                    let by = one.by.clone();
                    match taken(run, policy, &plan, &secrets, one, expires).await? {
                        Ok(new) => (fresh, taken_up) = (fresh || new, true),
                        Err(why) => uncounted.push(format!("the approval of {by} {why}")),
                    }
                }
                if !taken_up {
                    let error = CommandError::usage(uncounted.join("; ")).exit(Exit::Refused);
                    return Err(error.hint("somebody else has to approve it"));
                }
                let (standing, exit) = match engine.standing(&plan, policy, &secrets).await? {
                    standing @ (Standing::Approved(_) | Standing::Waiting(..)) => {
                        let again = if fresh { "" } else { " (this approval was there already)" };
                        (format!("{}{again}", told(&standing)), Exit::Done)
                    }
                    standing @ Standing::Rejected(_) if refused => (told(&standing), Exit::Done),
                    standing => (told(&standing), Exit::Refused),
                };
                Ok(Answer { plan_digest: digest, stage: stage.name.clone(), standing, exit })
            },
            |console, answer| {
                let text =
                    format!("plan {} for {}: {}", answer.plan_digest.short(), answer.stage, clean(&answer.standing));
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

/// Returns what is decided and by whom: one decision, or the answers of all approval actions since the plan asks.
async fn wished(run: &Run<'_>, policy: &ApprovalPolicy, plan: &Plan, wish: Wish) -> Result<Vec<Decided>, CommandError> {
    let Wish { decision, comment, whose, .. } = wish;
    match whose {
        Whose::Own => {
            let by = run.engine.by.clone();
            Ok(vec![Decided { decision, by, via: "command", source: None, at: None, comment }])
        }
        Whose::Github => {
            let missing = || {
                let error = CommandError::usage("no workflow run can be asked for its reviewers");
                error.hint("run this in GitHub Actions, with GITHUB_TOKEN set to a token with `actions: read`")
            };
            reviewers(run, run.environment.github_run.as_ref().ok_or_else(missing)?, policy).await
        }
        Whose::Pipeline(FromPipeline { name, execution }) => {
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
            let mut decided = answered(&answers, plan.digest);
            // CodePipeline's times are whole seconds.
            decided.retain(|one| one.at.is_none_or(|at| at.as_second() >= plan.asked.as_second()));
            if decided.is_empty() {
                let message = format!(
                    "no approval action of execution {execution} of {name} has an answer to plan {}",
                    plan.digest
                );
                let error = CommandError::usage(message).exit(Exit::Waiting);
                return Err(error.hint("the action's comment (CustomData) has to show the plan's digest"));
            }
            Ok(decided)
        }
    }
}

/// Reads a plan from the store.
pub async fn read_plan(
    engine: &Engine,
    application: &str,
    digest: Digest,
    secrets: &Secrets,
) -> Result<Arc<Plan>, CommandError> {
    let plan = engine.read_plan(application, digest, secrets).await.map_err(|fault| {
        let refused = fault.kind == FaultKind::Mismatch;
        let error = CommandError::from(fault);
        if refused { error.exit(Exit::Refused).hint("plan again") } else { error }
    })?;
    plan.map(Arc::new).ok_or_else(|| {
        CommandError::usage(format!("there is no plan {digest}"))
            .hint("make one with `tenantry plan`, which prints its digest")
    })
}
