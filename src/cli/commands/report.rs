//! `tenantry report`: a rollout from its records, in whatever form somebody wants it.

use std::fs;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::decide::read_plan;
use crate::cli::error::CommandError;
use crate::cli::workspace::{Run, Workspace};
use crate::domain::Exit;
use crate::plan::Secrets;
use crate::report::rollout::{self as told, Chronicle};

/// Where a report goes beside standard output.
pub struct To {
    /// The page.
    pub html: Option<PathBuf>,
    /// JUnit XML.
    pub junit: Option<PathBuf>,
    /// Markdown, appended.
    pub summary: Option<PathBuf>,
    /// Whether annotations are printed.
    pub annotations: bool,
}

/// Reads a rollout's records and writes reports of it.
pub async fn report(workspace: Workspace, rollout: &str, to: To) -> Result<Exit, CommandError> {
    let templates: Vec<_> = workspace.project.templates().map(|(_, document)| document.clone()).collect();
    workspace
        .conduct(
            async |run| {
                let Run { project, engine, .. } = run;
                let application = &project.application;
                let unknown = || {
                    CommandError::usage(format!("there is no rollout {rollout} of {application}"))
                        .hint("`apply` and `deploy` print a rollout's name when it begins")
                };
                let history = engine.history(application, rollout).await?.ok_or_else(unknown)?;
                let sealing = Secrets::sealing(engine.digest_key(application).await?);
                let plan = read_plan(engine, application, history.plan, &sealing).await?;
                let end = engine.rollout(application, rollout).await?;
                let journal = engine.told(application, rollout).await?;
                let by = history.by.to_string();
                Ok(Chronicle::new(rollout, &plan, history.begun, by, journal, end.as_ref()))
            },
            |console, chronicle| {
                if let Some(path) = &to.html {
                    write(path, &told::page(&chronicle))?;
                }
                if let Some(path) = &to.junit {
                    write(path, &told::junit(&chronicle))?;
                }
                if let Some(path) = &to.summary {
                    let mut file = OpenOptions::new()
                        .create(true)
                        .append(true)
                        .open(path)
                        .map_err(|error| unwritable(path, &error))?;
                    file.write_all(told::in_markdown(&chronicle).as_bytes())
                        .map_err(|error| unwritable(path, &error))?;
                }
                if to.annotations
                    && let Some(template) = templates.first()
                {
                    anstream::stdout().write_all(told::annotations(&chronicle, template).as_bytes())?;
                }
                let markdown = || told::in_markdown(&chronicle).trim_end().to_owned();
                console.answer_with(&told::in_text(&chronicle), markdown, &chronicle)?;
                Ok(Exit::Done)
            },
        )
        .await
}

fn write(path: &Path, text: &str) -> Result<(), CommandError> {
    fs::write(path, text).map_err(|error| unwritable(path, &error))
}

fn unwritable(path: &Path, error: &std::io::Error) -> CommandError {
    CommandError::usage(format!("cannot write {}: {error}", path.display()))
}
