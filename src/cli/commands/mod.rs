//! One file a command or two, and what they do alike.

mod answer;
mod apply;
mod deploy;
mod estate;
mod offline;
mod package;
mod plan;
mod stage;
mod subject;

use super::args::{Args, Command};
use super::error::CommandError;
use super::workspace::Workspace;
use crate::domain::Exit;

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
        Command::Apply { digest, approval } => apply::apply(open().await?, digest, approval.approve).await,
        Command::Deploy { stage, selectors, approval } => {
            deploy::deploy(open().await?, stage.as_deref(), selectors.into(), approval.approve).await
        }
        Command::Status { stage, selectors } => estate::status(open().await?, stage.as_deref(), selectors.into()).await,
        Command::Destroy { stage, selectors, confirm } => {
            estate::destroy(open().await?, &stage, selectors.into(), confirm).await
        }
    }
}
