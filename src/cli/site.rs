//! What commands start with that set accounts up: before there is a bucket, or a role to enter by.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::mpsc::UnboundedReceiver;

use super::args::Args;
use super::console::Console;
use super::environment::Environment;
use super::error::CommandError;
use super::run::conduct;
use super::workspace::{connect, visit};
use crate::aws::{Administrators, Caller, Tooling};
use crate::config::{Accounts, Files};
use crate::domain::{Exit, Identity, Region};
use crate::engine::{Engine, Scratch, Stop, StopHandle};
use crate::event::{Events, Timed};

/// The accounts of a configuration, with an engine that can set them up.
pub struct Site {
    /// The accounts.
    pub accounts: Accounts,
    /// The engine. It keeps its records in memory: whatever is interrupted is planned anew.
    pub engine: Engine,
    /// How this process speaks.
    pub console: Console,
    /// What the surroundings say.
    pub environment: Environment,
    /// The account of the credentials.
    pub tooling: Tooling,
    /// Whose they are.
    pub caller: Caller,
    /// The region in which stacks are made.
    pub region: Region,
    heard: UnboundedReceiver<Timed>,
    stop: StopHandle,
}

impl Site {
    /// Reads which accounts there are, and only then connects.
    pub async fn open(args: &Args, files: &Files, region: Option<Region>) -> Result<Self, CommandError> {
        let environment = Environment::read();
        let accounts = Accounts::read(files)?;
        let console = Console::new(args, &environment, None);
        console.hide(accounts.tenants.iter().filter_map(|tenant| tenant.external_id.clone()).collect())?;
        let region = region.unwrap_or_else(|| accounts.region.clone());
        let (tooling, caller) = connect(&region, &environment).await?;
        let (events, heard) = Events::channel(Timestamp::now);
        let (handle, stop) = Stop::new();
        let visit = visit(&environment, &caller, "bootstrap");
        let engine = Engine {
            store: Arc::new(Scratch::default()),
            accounts: Arc::new(Administrators::new(tooling.clone(), caller.account.clone(), visit)),
            events,
            stop,
            run: format!("{:032x}", fastrand::u128(..)),
            by: Identity { principal: caller.arn.clone(), source_identity: environment.initiator.clone() },
            lease: None,
            together: None,
        };
        Ok(Self { accounts, engine, console, environment, tooling, caller, region, heard, stop: handle })
    }

    /// Conducts a command's work from its first event to its last, then lets it answer.
    pub async fn conduct<T>(
        mut self,
        work: impl AsyncFnOnce(&Self) -> Result<T, CommandError>,
        answer: impl FnOnce(&Console, T) -> Result<Exit, CommandError>,
    ) -> Result<Exit, CommandError> {
        let reporter = self.console.reporter();
        let heard = std::mem::replace(&mut self.heard, tokio::sync::mpsc::unbounded_channel().1);
        match conduct(work(&self), heard, &self.engine.events, reporter, &self.stop).await? {
            Some(result) => {
                result.and_then(|result| answer(&self.console, result)).map_err(|error| self.console.cover(error))
            }
            None => Ok(Exit::Detached),
        }
    }
}
