//! One file a command or two, and what they do alike.

mod answer;
mod apply;
mod decide;
mod deploy;
mod estate;
mod gate;
mod history;
mod offline;
mod package;
mod plan;
mod stage;
mod subject;

use self::decide::{FromPipeline, Wish};
use super::args::{Args, Command};
use super::error::CommandError;
use super::workspace::Workspace;
use crate::domain::Exit;
use crate::plan::Decision;

/// Runs a command.
pub async fn run(args: Args) -> Result<Exit, CommandError> {
    let open = || Workspace::open(&args);
    match args.command.clone() {
        Command::Init => offline::init(&args),
        Command::Check => offline::check(&args),
        Command::Schema => offline::schema(),
        Command::Package => package::package(open().await?).await,
        Command::Plan { stage, release, selectors } => {
            plan::plan(open().await?, &stage, release.as_deref(), selectors.into()).await
        }
        Command::Approve { digest, comment, expires, from_codepipeline, pipeline, pipeline_execution } => {
            let from = FromPipeline { name: pipeline, execution: pipeline_execution };
            let pipeline = from_codepipeline.then_some(from);
            decide::decide(open().await?, digest, Wish { decision: Decision::Approved, comment, expires, pipeline })
                .await
        }
        Command::Reject { digest, why } => {
            let wish = Wish { decision: Decision::Rejected { why }, comment: None, expires: None, pipeline: None };
            decide::decide(open().await?, digest, wish).await
        }
        Command::Apply { digest, way } => apply::apply(open().await?, digest, way).await,
        Command::Resume { rollout, wait_for_lock } => apply::resume(open().await?, &rollout, wait_for_lock).await,
        Command::Deploy { stage, selectors, way } => {
            deploy::deploy(open().await?, stage.as_deref(), selectors.into(), way).await
        }
        Command::Promote { release, to, skip_stage_check, selectors, way } => {
            deploy::promote(open().await?, &release, &to, skip_stage_check, selectors.into(), way).await
        }
        Command::Rollback { to, stage, selectors, way } => {
            deploy::rollback(open().await?, to, stage.as_deref(), selectors.into(), way).await
        }
        Command::Releases => history::releases(open().await?).await,
        Command::Unlock { stage, id } => history::unlock(open().await?, &stage, &id).await,
        Command::Status { stage, drift, selectors } => {
            estate::status(open().await?, stage.as_deref(), drift, selectors.into()).await
        }
        Command::Recover { stage, selectors, skip, confirm } => {
            estate::recover(open().await?, &stage, selectors.into(), skip, confirm).await
        }
        Command::Destroy { stage, selectors, confirm } => {
            estate::destroy(open().await?, &stage, selectors.into(), confirm).await
        }
    }
}
