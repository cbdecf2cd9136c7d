//! What every command that talks to AWS starts with: the project, the connections, the engine.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::mpsc::UnboundedReceiver;

use super::args::{Args, Command};
use super::console::Console;
use super::environment::{Environment, session_text};
use super::error::CommandError;
use super::run::conduct;
use crate::aws::{ArtifactStore, CaBundle, Caller, Sessions, StoreSettings, Tooling, Visit};
use crate::config::{self, Files, Project, StoreConfig};
use crate::domain::{Exit, Identity, Region};
use crate::engine::{Engine, Stop, StopHandle};
use crate::event::{Events, Timed};
use crate::package::{Cache, Packaging};
use crate::report::traces::{Traced, Traces};

/// Objects of so many bytes are sent in parts.
const MULTIPART_FROM: usize = 64 << 20;
/// Size of a part.
const PART: usize = 16 << 20;

/// A project with an engine that is ready to work on it.
pub struct Workspace {
    /// The project.
    pub project: Project,
    /// The engine.
    pub engine: Engine,
    /// How this process speaks.
    pub console: Console,
    /// What the surroundings say.
    pub environment: Environment,
    /// The tooling account.
    pub tooling: Tooling,
    /// How folders are packaged.
    pub packaging: Packaging,
    heard: UnboundedReceiver<Timed>,
    stop: StopHandle,
}

/// What a command works with.
pub struct Run<'a> {
    /// The project.
    pub project: &'a Project,
    /// The engine.
    pub engine: &'a Engine,
    /// How this process speaks.
    pub console: &'a Console,
    /// What the surroundings say.
    pub environment: &'a Environment,
    /// The tooling account.
    pub tooling: &'a Tooling,
    /// How folders are packaged.
    pub packaging: &'a Packaging,
}

/// Connects with the credentials around this process, and asks whose they are.
pub async fn connect(region: &Region, environment: &Environment) -> Result<(Tooling, Caller), CommandError> {
    let read = |path: &PathBuf| {
        let bundle = fs::read(path).map_err(|error| error.to_string()).and_then(CaBundle::read);
        bundle.map_err(|why| {
            CommandError::usage(format!("cannot read the certificates in {}: {why}", path.display()))
                .hint("AWS_CA_BUNDLE names them")
        })
    };
    let ca_bundle = environment.ca_bundle.as_ref().map(read).transpose()?;
    let tooling = Tooling::connect(region, ca_bundle).await?;
    let caller = tooling.caller().await?;
    Ok((tooling, caller))
}

/// Returns the artifact bucket.
pub fn artifact_store(tooling: &Tooling, store: &StoreConfig, environment: &Environment) -> ArtifactStore {
    let settings = StoreSettings {
        bucket: store.bucket.clone(),
        owner: store.account.clone(),
        kms_key: store.kms_key.clone(),
        region: store.region.clone(),
        endpoint: environment.s3_endpoint.clone(),
        multipart_from: MULTIPART_FROM,
        part: PART,
    };
    ArtifactStore::new(tooling, settings)
}

/// Returns what sessions of this run say of themselves.
pub fn visit(environment: &Environment, caller: &Caller, application: &str) -> Visit {
    let initiator = environment.initiator.as_deref().or_else(|| caller.arn.rsplit('/').next());
    let run = environment.run.clone().unwrap_or_else(|| Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string());
    Visit {
        session_name: session_text(&format!("tenantry-{run}-{application}")),
        source_identity: initiator.map(session_text).filter(|text| text.len() >= 2),
        plans: false,
    }
}

impl Workspace {
    /// Reads and checks the project, and only then connects.
    pub async fn open(args: &Args, files: &Files, stack: Option<&str>) -> Result<Self, CommandError> {
        let plans = matches!(args.command, Command::Plan { .. } | Command::Status { drift: false, .. });
        let environment = Environment::read();
        let project = config::load(files, environment.variables.clone(), stack)?;
        let console = Console::new(args, &environment, stack);
        console.hide(project.secret_values(&project.secret_parameters()))?;
        console
            .check_outputs()
            .map_err(|error| CommandError::usage(format!("cannot write the file for outputs: {error}")))?;

        let (tooling, caller) = connect(&project.store.region, &environment).await?;
        let visit = Visit { plans, ..visit(&environment, &caller, &project.application) };
        let (events, heard) = Events::channel(Timestamp::now);
        if let Some(stack) = stack {
            events.notice(format!("stack {stack} of the assembly, released as {}", project.application));
        }
        let (handle, stop) = Stop::new();
        let engine = Engine {
            store: Arc::new(artifact_store(&tooling, &project.store, &environment)),
            accounts: Arc::new(Sessions::new(tooling.clone(), visit)),
            events,
            stop,
            run: format!("{:032x}", fastrand::u128(..)),
            by: Identity { principal: caller.arn.clone(), source_identity: environment.initiator.clone() },
            lease: None,
            together: None,
        };
        let packaging =
            Packaging { cache: args.cache.clone().map(Cache::new), leave_out: project.files(), threads: None };
        Ok(Self { project, engine, console, environment, tooling, packaging, heard, stop: handle })
    }

    /// Conducts a command's work from its first event to its last, then lets it answer.
    pub async fn conduct<T>(
        self,
        work: impl AsyncFnOnce(&Run<'_>) -> Result<T, CommandError>,
        answer: impl FnOnce(&Console, T) -> Result<Exit, CommandError>,
    ) -> Result<Exit, CommandError> {
        let Self { project, engine, console, environment, tooling, packaging, heard, stop } = self;
        let traces = environment.tracing.as_ref().map(|tracing| {
            let parent = tracing.parent.as_deref();
            let trace = Traces::new(console.command(), &engine.run, parent, console.masks(), engine.events.now());
            (tracing, trace)
        });
        let reporter = match &traces {
            Some((_, traces)) => Box::new(Traced { reporter: console.reporter(), traces: traces.clone() }),
            None => console.reporter(),
        };
        let run = Run {
            project: &project,
            engine: &engine,
            console: &console,
            environment: &environment,
            tooling: &tooling,
            packaging: &packaging,
        };
        let work = work(&run);
        let result = match conduct(work, heard, &engine.events, reporter, &stop).await? {
            Some(result) => result.and_then(|result| answer(&console, result)).map_err(|error| console.cover(error)),
            None => Ok(Exit::Detached),
        };
        if let Some((tracing, traces)) = traces {
            let code = result.as_ref().map_or_else(|error| error.answer() as u8, |exit| *exit as u8);
            for json in traces.end(&tracing.service, code, Timestamp::now()) {
                // What has happened is not undone by a collector that cannot be reached.
                if let Err(fault) = tooling.trace(&tracing.url, json, &tracing.headers).await {
                    console.note(&format!("spans could not be sent: {fault}"))?;
                    break;
                }
            }
        }
        result
    }
}
