//! One file a command or two, and what they do alike.

mod accounts;
mod answer;
mod apply;
mod bootstrap;
mod decide;
mod deploy;
mod dismantle;
mod doctor;
mod estate;
mod gate;
mod history;
mod machines;
mod manual;
mod notify;
mod offline;
mod package;
mod plan;
mod policy;
mod report;
mod shards;
mod stage;
mod subject;
mod tenant;
mod tooling;

use std::cell::OnceCell;

use self::decide::{FromPipeline, Whose, Wish};
use super::args::{Args, BootstrapPart, Command, Output};
use super::error::CommandError;
use super::tenants::files;
use super::workspace::Workspace;
use crate::config::{self, StageConfig};
use crate::domain::{Exit, ReleaseId};
use crate::plan::{Decision, Selection};

/// Runs a command.
pub async fn run(args: Args) -> Result<Exit, CommandError> {
    match &args.command {
        Command::Init => return offline::init(&args),
        Command::Schema => return offline::schema(),
        Command::Completions { shell } => return manual::completions(*shell),
        Command::Man { folder } => return manual::man(folder),
        Command::Shards { of } => return shards::shards(*of, args.output),
        _ if matches!(args.output, Output::GithubMatrix | Output::CodebuildBatch) => {
            let error = CommandError::usage("only `tenantry shards` prints a matrix");
            return Err(error.hint("use `--output json` here, or `tenantry shards --of 4 --output github-matrix`"));
        }
        Command::Bootstrap { part: BootstrapPart::Template { part } } => return bootstrap::template(*part),
        Command::Doctor { policy: true, .. } => {
            return each(&stacks(&args)?, async |stack| policy::policy(&args, stack.as_deref())).await;
        }
        _ => {}
    }
    let files = files(&args).await?;
    let open = || Workspace::open(&args, &files, args.stack.as_deref());
    let of = async |stack: &Option<String>| Workspace::open(&args, &files, stack.as_deref()).await;
    match args.command.clone() {
        Command::Init
        | Command::Schema
        | Command::Completions { .. }
        | Command::Man { .. }
        | Command::Shards { .. } => Ok(Exit::Done),
        Command::Check => each(&stacks(&args)?, async |stack| offline::check(&args, &files, stack.as_deref())).await,
        Command::Package { explain } => {
            each(&stacks(&args)?, async |stack| package::package(of(stack).await?, explain).await).await
        }
        Command::Plan { stage, release, promote, selectors } => {
            plan::plan(open().await?, &stage, release.as_deref(), promote, selectors.into()).await
        }
        Command::Approve { digest, comment, expires, from_github, from_codepipeline, pipeline, pipeline_execution } => {
            let whose = match (from_codepipeline, from_github) {
                (true, _) => Whose::Pipeline(FromPipeline { name: pipeline, execution: pipeline_execution }),
                (_, true) => Whose::Github,
                _ => Whose::Own,
            };
            decide::decide(open().await?, digest, Wish { decision: Decision::Approved, comment, expires, whose }).await
        }
        Command::Reject { digest, why } => {
            let wish = Wish { decision: Decision::Rejected { why }, comment: None, expires: None, whose: Whose::Own };
            decide::decide(open().await?, digest, wish).await
        }
        Command::Apply { digest, shard, engine: _, shards, way } => {
            apply::apply(open().await?, digest, shard, shards, way).await
        }
        Command::Resume { rollout, wait_for_lock } => apply::resume(open().await?, &rollout, wait_for_lock).await,
        Command::Deploy { stage, selectors, way } => {
            let selection: Selection = selectors.into();
            let stacks = stacks(&args)?;
            let first = of(&stacks[0]).await?;
            let stages = first.project.stages_or(stage.as_deref())?;
            first.project.check_selection(&stages, &selection)?;
            if stacks.len() == 1 {
                return deploy::deploy(first, stages, selection, way, &OnceCell::new()).await;
            }
            // A stage has all stacks before the next one has any; each stack is packaged once.
            let packaged: Vec<OnceCell<ReleaseId>> = stacks.iter().map(|_| OnceCell::new()).collect();
            let is_meant = |stage: &&StageConfig| first.project.selects(stage, &selection);
            let stages = stages.iter().filter(is_meant);
            let passes: Vec<_> =
                stages.flat_map(|stage| stacks.iter().zip(&packaged).map(move |one| (stage, one))).collect();
            let pass = async |(stage, (stack, packaged)): &(&StageConfig, (&Option<String>, &OnceCell<ReleaseId>))| {
                let stages = vec![(*stage).clone()];
                deploy::deploy(of(stack).await?, stages, selection.clone(), way.clone(), packaged).await
            };
            each(&passes, pass).await
        }
        Command::Promote { release, to, skip_stage_check, selectors, way } => {
            deploy::promote(open().await?, &release, &to, skip_stage_check, selectors.into(), way).await
        }
        Command::Rollback { to, stage, selectors, way } => {
            deploy::rollback(open().await?, to, stage.as_deref(), selectors.into(), way).await
        }
        Command::Releases => history::releases(open().await?).await,
        Command::Report { of, html, junit, summary, annotations } => {
            report::report(open().await?, &of, report::To { html, junit, summary, annotations }).await
        }
        Command::Unlock { stage, shard, id } => history::unlock(open().await?, &stage, shard, &id).await,
        Command::Status { stage, drift, selectors } => {
            let selection: Selection = selectors.into();
            let status = async |stack: &Option<String>| {
                estate::status(of(stack).await?, stage.as_deref(), drift, selection.clone()).await
            };
            each(&stacks(&args)?, status).await
        }
        Command::Doctor { policy: _, stage, selectors } => {
            let selection: Selection = selectors.into();
            let doctor = async |stack: &Option<String>| {
                doctor::doctor(of(stack).await?, &files, stage.as_deref(), selection.clone()).await
            };
            each(&stacks(&args)?, doctor).await
        }
        Command::Recover { stage, selectors, skip, confirm } => {
            estate::recover(open().await?, &stage, selectors.into(), skip, confirm).await
        }
        Command::Bootstrap { part } => bootstrap::bootstrap(&args, &files, part).await,
        Command::Tenant { command } => tenant::tenant(&args, &files, command).await,
        Command::Destroy { stage, selectors, confirm } => {
            let selection: Selection = selectors.into();
            let destroy = async |stack: &Option<String>| {
                estate::destroy(of(stack).await?, &stage, selection.clone(), confirm.clone()).await
            };
            // What others depend on goes last.
            let mut stacks = stacks(&args)?;
            stacks.reverse();
            each(&stacks, destroy).await
        }
    }
}

/// Returns the stack that was chosen, or all that the configuration releases.
fn stacks(args: &Args) -> Result<Vec<Option<String>>, CommandError> {
    match &args.stack {
        Some(stack) => Ok(vec![Some(stack.clone())]),
        None => Ok(config::stacks(&args.config)?),
    }
}

/// Does the same for one after the other, as long as it is done.
async fn each<T>(all: &[T], work: impl AsyncFn(&T) -> Result<Exit, CommandError>) -> Result<Exit, CommandError> {
    let mut exit = Exit::Done;
    for one in all {
        match work(one).await? {
            Exit::Done => {}
            Exit::Tolerated => exit = Exit::Tolerated,
            other => return Ok(other),
        }
    }
    Ok(exit)
}
