//! `tenantry apply --engine step-functions`: machines that a state machine starts, followed as one rollout.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::pending;
use std::io::{Cursor, Write as _};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::answer::{StageAnswer, StageEnd};
use super::notify;
use super::stage::ended;
use crate::cli::environment::session_text;
use crate::cli::error::CommandError;
use crate::cli::workspace::Run;
use crate::config::{Project, StageConfig};
use crate::domain::{Exit, Fault, FaultKind, Shard};
use crate::engine::Refusal;
use crate::plan::Plan;

/// Digits of the plan's digest in an execution's name, which has 80 characters at most.
const DIGITS: usize = 40;
/// Machines wait so long for a lock at least: those of one that was stopped give theirs back, or it runs out.
const PATIENCE: Duration = Duration::from_mins(5);
/// Executions of one plan that are looked for.
const MOST: u32 = 100;
/// How often it is looked for one that somebody else has started.
const TRIES: u32 = 60;
/// For how long one that was started need not be known.
const UNKNOWN: Duration = Duration::from_mins(2);

/// An execution of the state machine for a plan. Its name says which plan, on how many machines, and which try it is: so there
/// is one of each, whoever starts it.
struct Machines {
    /// Its ARN.
    arn: String,
    /// The number that the stage's lock had before it.
    before: u64,
}

/// Follows the machines that execute a plan already, if there are some.
pub async fn follow_running(
    run: &Run<'_>,
    stage: &StageConfig,
    plan: &Plan,
    of: u32,
) -> Result<Option<StageEnd>, CommandError> {
    match find(run, plan, of).await? {
        Ok(machines) => follow(run, stage, plan, of, machines).await.map(Some),
        Err(_) => Ok(None),
    }
}

/// Lets so many machines execute a plan, and follows them to the end.
pub async fn roll_out(
    run: &Run<'_>,
    stage: &StageConfig,
    plan: &Plan,
    of: u32,
    wait: Duration,
) -> Result<StageEnd, CommandError> {
    for _ in 0..TRIES {
        let machines = match find(run, plan, of).await? {
            Ok(running) => Some(running),
            Err(_) if run.engine.stop.is_requested() => break,
            Err(number) => start(run, plan, of, number, wait).await?,
        };
        match machines {
            Some(machines) => return follow(run, stage, plan, of, machines).await,
            // Somebody else has started it this moment.
            None => sleep(Duration::from_secs(1)).await,
        }
    }
    if let Some(end) = stopped(run, stage, plan) {
        return Ok(end);
    }
    Err(CommandError::usage("machines were started by somebody else, and are not to be seen").exit(Exit::Refused))
}

/// Returns how a stage ends in which nothing was begun, where the run was stopped.
fn stopped(run: &Run<'_>, stage: &StageConfig, plan: &Plan) -> Option<StageEnd> {
    let halted = || ended(stage, plan, Err(Refusal::Halted("the run was stopped")));
    run.engine.stop.is_requested().then(halted)
}

fn name(plan: &Plan, of: u32, number: u32) -> String {
    format!("{}-{of}-{number}", &plan.digest.to_string()[..DIGITS])
}

/// Returns the ARN of the state machine, or with a name that of an execution.
fn arn(project: &Project, execution: Option<&str>) -> String {
    let store = &project.store;
    let begin = format!("arn:{}:states:{}:{}", store.region.partition(), store.region, store.account);
    match execution {
        None => format!("{begin}:stateMachine:tenantry-{}", project.family),
        Some(name) => format!("{begin}:execution:tenantry-{}:{name}", project.family),
    }
}

/// Returns the execution that runs; or the number of the next one.
async fn find(run: &Run<'_>, plan: &Plan, of: u32) -> Result<Result<Machines, u32>, CommandError> {
    for number in 0..MOST {
        let arn = arn(run.project, Some(&name(plan, of, number)));
        let found = run.tooling.execution(&arn).await.map_err(|fault| of_machines(fault, run.project))?;
        let Some(found) = found else { return Ok(Err(number)) };
        if found.ended.is_none() {
            let input: Value = serde_json::from_str(&found.input).unwrap_or_default();
            let before = input["before"].as_u64().unwrap_or_default();
            run.engine.events.notice(format!("machines execute the plan: {arn}"));
            return Ok(Ok(Machines { arn, before }));
        }
    }
    let error = CommandError::usage(format!("{MOST} executions of this plan have ended without its end"));
    Err(error.exit(Exit::Refused).hint("plan again"))
}

/// Starts the machines, with the configuration as it was read here; none where somebody else has done so.
async fn start(
    run: &Run<'_>,
    plan: &Plan,
    of: u32,
    number: u32,
    wait: Duration,
) -> Result<Option<Machines>, CommandError> {
    let Run { project, engine, tooling, environment, .. } = run;
    let asked = project.variables_asked();
    if !asked.is_empty() {
        let names = asked.into_iter().collect::<Vec<_>>().join(", ");
        let message = format!("parameters have values of this environment, which the machines do not have: {names}");
        return Err(CommandError::usage(message).hint(
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
    // No application's name begins with a dot. The key tells nothing of the content, in which secrets may stand.
    let key = format!("tenantry/.fleet/{}/{}.zip", project.application, engine.run);
    engine.store.put_once(&key, zip).await?;
    let before = engine.lock_number(plan, of).await?;
    let initiator = environment.initiator.as_deref().or_else(|| engine.by.principal.rsplit('/').next());
    let input = json!({
        "plan": plan.digest,
        "shards": Shard::all(of).map(|shard| shard.to_string()).collect::<Vec<_>>(),
        "source": format!("{}/{key}", project.store.bucket),
        "config": carried.config,
        "tenants": carried.tenants.unwrap_or_default(),
        "stack": project.stack.clone().unwrap_or_default(),
        "wait": format!("{}s", wait.max(PATIENCE).as_secs()),
        "initiator": session_text(initiator.unwrap_or_default()),
        "before": before,
    });
    let name = name(plan, of, number);
    let is_new = tooling.start_execution(&arn(project, None), &name, input.to_string()).await;
    if !is_new.map_err(|fault| of_machines(fault, project))? {
        return Ok(None);
    }
    let arn = arn(project, Some(&name));
    engine.events.notice(format!("{of} machines are started: {arn}"));
    Ok(Some(Machines { arn, before }))
}

/// Follows machines to the end. Where this run is stopped, they are.
async fn follow(
    run: &Run<'_>,
    stage: &StageConfig,
    plan: &Plan,
    of: u32,
    machines: Machines,
) -> Result<StageEnd, CommandError> {
    let Run { project, engine, tooling, .. } = run;
    let Machines { arn, before } = machines;
    let let_go = Cell::new(false);
    let stop = async {
        engine.stop.requested().await;
        if let Err(fault) = tooling.stop_execution(&arn, "whoever followed it was stopped").await {
            engine.events.notice(format!("the machines could not be stopped: {fault}"));
            let_go.set(true);
        }
        pending::<Infallible>().await
    };
    let since = Instant::now();
    let is_over = || async {
        if let_go.get() {
            return Ok(true);
        }
        // One that was started a moment ago may not be known yet.
        let found = tooling.execution(&arn).await?;
        Ok(found.map_or(since.elapsed() > UNKNOWN, |execution| execution.ended.is_some()))
    };
    let followed = tokio::select! {
        followed = engine.follow_elsewhere(plan, of, before, is_over) => followed,
        never = stop => match never {},
    };
    let followed = followed.map_err(|fault| {
        let error = CommandError::from(fault).exit(Exit::Detached);
        error.hint("the machines go on: the same command follows them again")
    })?;
    let status = async || {
        let ended = tooling.execution(&arn).await.ok().flatten().and_then(|execution| execution.ended);
        let ended = ended.unwrap_or_else(|| "it goes on".to_owned());
        format!("the machines' execution: {ended}; what their builds say: log group /tenantry/{}-fleet", project.family)
    };
    if let_go.get() {
        let error = CommandError::usage("the machines could not be stopped, and go on").exit(Exit::Detached);
        return Err(error.hint("the same command follows them again"));
    }
    let Some(done) = followed else {
        if let Some(end) = stopped(run, stage, plan) {
            return Ok(end);
        }
        let error = CommandError::usage("no machine has begun to execute the plan").hint(status().await);
        return Ok(StageEnd::idle(stage, Some(plan), Exit::Refused, error));
    };
    // Topics are told by the machine that was last, if one was; the variables with webhooks are here.
    let whom = if done.all.is_some() { notify::Whom::Webhooks } else { notify::Whom::All };
    if done.all.is_none() {
        engine.events.notice(status().await);
        engine.events.notice("the same command starts the machines again, and they go on");
    }
    let mut answer = StageAnswer::new(&stage.name, Some(plan), done.exit, done.finished.clone());
    answer.rollout.clone_from(&done.rollout);
    notify::ended(run, plan, &answer, whom).await;
    Ok(ended(stage, plan, Ok(done)))
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
