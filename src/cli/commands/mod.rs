//! One file a family of commands.

mod estate;
mod offline;
mod release;
mod rollout;

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
        Command::Package => release::package(open().await?).await,
        Command::Plan { stage, release, selectors } => {
            rollout::plan(open().await?, &stage, release.as_deref(), selectors.into()).await
        }
        Command::Apply { digest, approval } => rollout::apply(open().await?, digest, approval.approve).await,
        Command::Deploy { stage, selectors, approval } => {
            rollout::deploy(open().await?, stage.as_deref(), selectors.into(), approval.approve).await
        }
        Command::Status { stage, selectors } => estate::status(open().await?, stage.as_deref(), selectors.into()).await,
        Command::Destroy { stage, selectors, confirm } => {
            estate::destroy(open().await?, &stage, selectors.into(), confirm).await
        }
    }
}
