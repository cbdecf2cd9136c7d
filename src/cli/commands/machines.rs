//! `tenantry apply --engine step-functions`: machines that a state machine starts, followed as one rollout.

use std::io::{Cursor, Write as _};
use std::time::Duration;

use serde_json::json;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::answer::StageEnd;
use super::stage::concluded;
use crate::aws::Execution;
use crate::cli::environment::session_text;
use crate::cli::error::CommandError;
use crate::cli::workspace::Run;
use crate::config::{Project, StageConfig};
use crate::domain::{Exit, Fault, FaultKind, Shard};
use crate::engine::Refusal;
use crate::plan::Plan;

/// Digits of the plan's digest in an execution's name, which has 80 characters at most.
const DIGITS: usize = 40;

/// Lets so many machines execute a plan, and follows them to the end. Those that execute it already are followed.
pub async fn roll_out(
    run: &Run<'_>,
    stage: &StageConfig,
    plan: &Plan,
    of: u32,
    wait: Duration,
) -> Result<StageEnd, CommandError> {
    let Run { project, engine, tooling, .. } = run;
    let store = &project.store;
    let machine = format!(
        "arn:{}:states:{}:{}:stateMachine:tenantry-{}",
        store.region.partition(),
        store.region,
        store.account,
        project.family
    );
    let plan_in_name = plan.digest.to_string()[..DIGITS].to_owned();
    let known =
        tooling.running_execution(&machine, &plan_in_name).await.map_err(|fault| of_machines(fault, project))?;
    let (execution, before) = if let Some(execution) = known {
        let before = number_before(&execution, plan, of)?;
        engine.events.notice(format!("machines execute the plan already: {}", execution.arn));
        (execution, before)
    } else {
        let before = engine.lock_number(plan).await?;
        let name = format!("{plan_in_name}-{of}-{before}-{}", &engine.run[..8]);
        (start(run, plan, of, wait, &machine, &name).await?, before)
    };
    let is_over = async || Ok(tooling.end_of_execution(&execution.arn).await?.is_some());
    let followed = engine.follow_elsewhere(plan, of, before, is_over).await;
    if engine.stop.is_requested() {
        let stopped = tooling.stop_execution(&execution.arn, "whoever has started it was stopped").await;
        if let Err(fault) = stopped {
            engine.events.notice(format!("the machines could not be stopped: {fault}"));
        }
    }
    let go_on = "the same command follows the machines again, or starts them again where they were stopped";
    let followed = followed
        .map_err(|fault| CommandError::from(fault).exit(Exit::Detached).hint(format!("{go_on}; they go on")))?;
    match followed {
        Some(done) => Ok(concluded(run, stage, plan, Ok(done)).await),
        None if engine.stop.is_requested() => {
            Ok(concluded(run, stage, plan, Err(Refusal::Halted("the run was stopped"))).await)
        }
        None => {
            let end = tooling.end_of_execution(&execution.arn).await?.unwrap_or_default();
            let message = format!("no machine has begun to execute the plan; their execution ended: {end}");
            let hint = format!("their builds say why: log group /tenantry/{}-fleet", project.family);
            Ok(StageEnd::idle(stage, Some(plan), Exit::Refused, CommandError::usage(message).hint(hint)))
        }
    }
}

/// Reads from its name which number the stage's lock had before an execution, where that is one of so many machines.
fn number_before(execution: &Execution, plan: &Plan, of: u32) -> Result<u64, CommandError> {
    let refused = |message: String| CommandError::usage(message).exit(Exit::Refused);
    let [_, machines, before, _] = execution.name.split('-').collect::<Vec<_>>()[..] else {
        return Err(refused(format!("execution {} was not started by Tenantry", execution.arn)));
    };
    if machines != of.to_string() {
        let error = refused(format!("plan {} is executed by {machines} machines already", plan.digest.short()));
        return Err(error.hint(format!("follow them with --shards {machines}")));
    }
    Ok(before.parse().unwrap_or_default())
}

/// Starts the machines, with the configuration as it was read here.
async fn start(
    run: &Run<'_>,
    plan: &Plan,
    of: u32,
    wait: Duration,
    machine: &str,
    name: &str,
) -> Result<Execution, CommandError> {
    let Run { project, engine, tooling, environment, .. } = run;
    let asked = project.variables_asked();
    if !asked.is_empty() {
        let message = format!("parameters have values of this environment, which the machines do not: {asked:?}");
        let error = CommandError::usage(message);
        return Err(error.hint(
            "use a dynamic reference, as {{resolve:secretsmanager:...}}, or run `apply --shard` where the values are",
        ));
    }
    let carried = project.carried()?;
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (file, bytes) in &carried.files {
        zip.start_file(file, SimpleFileOptions::default()).map_err(std::io::Error::other)?;
        zip.write_all(bytes)?;
    }
    let zip = zip.finish().map_err(std::io::Error::other)?.into_inner();
    // By this run's name: a digest of the content would tell who guesses a secret that stands in it that he was right.
    let key = format!("tenantry/{}/fleet/{name}.zip", project.application);
    engine.store.put_once(&key, zip).await?;
    let initiator = environment.initiator.as_deref().or_else(|| engine.by.principal.rsplit('/').next());
    let input = json!({
        "plan": plan.digest,
        "shards": Shard::all(of).map(|shard| shard.to_string()).collect::<Vec<_>>(),
        "source": format!("{}/{key}", project.store.bucket),
        "config": carried.config,
        "tenants": carried.tenants.unwrap_or_default(),
        "stack": project.stack.clone().unwrap_or_default(),
        "wait": format!("{}s", wait.as_secs()),
        "initiator": session_text(initiator.unwrap_or_default()),
    });
    let execution = tooling.start_execution(machine, name, input.to_string()).await;
    let execution = execution.map_err(|fault| of_machines(fault, project))?;
    engine.events.notice(format!("{of} machines are started: {}", execution.arn));
    Ok(execution)
}

/// Says what is missing where there is no state machine.
fn of_machines(fault: Fault, project: &Project) -> CommandError {
    let is_missing = fault.code == "StateMachineDoesNotExist";
    let is_denied = fault.kind == FaultKind::Denied;
    let error = CommandError::from(fault);
    if is_missing {
        return error.hint(format!("`tenantry bootstrap fleet` makes the state machine tenantry-{}", project.family));
    }
    let hint = "TenantryRelease allows it since this version: `tenantry bootstrap tooling` brings it up to date";
    if is_denied { error.hint(hint) } else { error }
}
