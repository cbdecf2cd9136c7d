//! Commands that make no call.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::Path;

use serde_json::json;

use crate::cli::args::Args;
use crate::cli::console::Console;
use crate::cli::environment::Environment;
use crate::cli::error::CommandError;
use crate::config::{self, Files, schema};
use crate::domain::Exit;
use crate::report::text::{GOOD, count, styled};

/// Writes a starter, and never over something that is there.
pub fn init(args: &Args) -> Result<Exit, CommandError> {
    let folder = args.config.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let text = config::starter(folder);
    let mut file = File::create_new(&args.config).map_err(|error| {
        let error = match error.kind() {
            ErrorKind::AlreadyExists => "it is there already".to_owned(),
            _ => error.to_string(),
        };
        CommandError::usage(format!("cannot write {}: {error}", args.config.display()))
    })?;
    file.write_all(text.as_bytes())?;
    let console = Console::new(args, &Environment::read(), None);
    let path = args.config.display().to_string();
    let text = format!(
        "{} {path}: fill in the accounts and run `tenantry check`; `tenantry bootstrap` makes the accounts ready",
        styled(GOOD, "wrote")
    );
    console.answer(&text, &json!({ "wrote": path }))?;
    Ok(Exit::Done)
}

/// Checks everything that can be checked here.
pub fn check(args: &Args, files: &Files, stack: Option<&str>) -> Result<Exit, CommandError> {
    let environment = Environment::read();
    let project = config::load(files, environment.variables.clone(), stack)?;
    let console = Console::new(args, &environment, stack);
    let mut lines = Vec::new();
    let mut stages = serde_json::Map::new();
    for stage in &project.stages {
        let targets = project.targets_to_come(stage)?;
        lines.push(format!("  {}: {}", stage.name, count(targets.len(), "target")));
        stages
            .insert(stage.name.clone(), json!(targets.iter().map(|target| target.id.to_string()).collect::<Vec<_>>()));
    }
    let text = format!("{} {}\n{}", styled(GOOD, "no problem in"), args.config.display(), lines.join("\n"));
    console.answer(&text, &json!({ "application": project.application, "stages": stages }))?;
    Ok(Exit::Done)
}

/// Prints the JSON Schema.
pub fn schema() -> Result<Exit, CommandError> {
    anstream::stdout().write_all(schema::json().as_bytes())?;
    Ok(Exit::Done)
}
