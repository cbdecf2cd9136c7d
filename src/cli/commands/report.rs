//! `tenantry report`: a rollout from its records, in whatever form somebody wants it; or a plan.

use std::fs;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::decide::read_plan;
use super::plan::PlanAnswer;
use super::subject::Subject;
use crate::cli::error::CommandError;
use crate::cli::workspace::{Run, Workspace};
use crate::domain::{Digest, Exit};
use crate::plan::Secrets;
use crate::report;
use crate::report::rollout::{self as told, Chronicle};
use crate::source::Document;

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

/// Reports what a name stands for.
pub async fn report(workspace: Workspace, of: &str, to: To) -> Result<Exit, CommandError> {
    match of.parse::<Digest>() {
        Ok(digest) => plan(workspace, digest, to).await,
        Err(_) => rollout(workspace, of, to).await,
    }
}

/// Shows a plan as it was made, whether it was executed since or not.
async fn plan(workspace: Workspace, digest: Digest, to: To) -> Result<Exit, CommandError> {
    if to.html.is_some() || to.junit.is_some() || to.annotations {
        let error =
            CommandError::usage("a plan has no targets that have ended: it is shown as text, JSON or a summary");
        return Err(error.hint("pages, JUnit XML and annotations are of a rollout, by its name"));
    }
    workspace
        .conduct(
            async |run| {
                let Run { project, engine, .. } = run;
                let sealing = Secrets::sealing(engine.digest_key(&project.application).await?);
                read_plan(engine, &project.application, digest, &sealing).await
            },
            |console, plan| {
                if let Some(path) = &to.summary {
                    append(path, &console.covered(&format!("{}\n", report::plan_in_markdown(&plan))))?;
                }
                let data = PlanAnswer::new(&plan, Vec::new());
                console.answer_with(&report::plan(&plan), || report::plan_in_markdown(&plan), &data)?;
                Ok(Exit::Done)
            },
        )
        .await
}

/// Reads a rollout's records and writes reports of it.
async fn rollout(workspace: Workspace, rollout: &str, to: To) -> Result<Exit, CommandError> {
    // As the files have them: what was written out has other lines.
    let paths = workspace.project.templates().map(|(_, document)| document.path.clone());
    let templates: Vec<Document> = paths.filter_map(|path| Document::read(&path, "the template").ok()).collect();
    workspace
        .conduct(
            async |run| {
                let Run { project, engine, .. } = run;
                let application = &project.application;
                let unknown = || {
                    CommandError::usage(format!("there is no rollout {rollout} of {application}"))
                        .hint("`apply` and `deploy` print a rollout's name when it begins")
                };
                let (history, journal) = engine.told(application, rollout).await?.ok_or_else(unknown)?;
                let sealing = Secrets::sealing(engine.digest_key(application).await?);
                let plan = read_plan(engine, application, history.plan, &sealing).await?;
                // The release's own template says which parameters are secret, where it is still there.
                let _ = Subject::of_release(run, plan.content.release.as_str()).await;
                let end = engine.rollout(application, rollout).await?;
                let by = history.by.to_string();
                Ok(Chronicle::new(rollout, &plan, history.begun, by, journal, end.as_ref()))
            },
            |console, chronicle| {
                if let Some(path) = &to.html {
                    let page = console.covered(&told::page(&chronicle));
                    fs::write(path, page).map_err(|error| unwritable(path, &error))?;
                }
                if let Some(path) = &to.junit {
                    let junit = told::junit(&chronicle).map_err(CommandError::usage)?;
                    fs::write(path, console.covered(&junit)).map_err(|error| unwritable(path, &error))?;
                }
                if let Some(path) = &to.summary {
                    append(path, &console.covered(&told::in_markdown(&chronicle)))?;
                }
                if to.annotations {
                    // The runner reads them wherever they are written; the answer stays what it is.
                    let annotations = console.covered(&told::annotations(&chronicle, &templates));
                    anstream::stderr().write_all(annotations.as_bytes())?;
                }
                let markdown = || told::in_markdown(&chronicle).trim_end().to_owned();
                console.answer_with(&told::in_text(&chronicle), markdown, &chronicle)?;
                Ok(Exit::Done)
            },
        )
        .await
}

/// Appends to a file, as a job's summary is written.
fn append(path: &Path, text: &str) -> Result<(), CommandError> {
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|error| unwritable(path, &error))
}

fn unwritable(path: &Path, error: &std::io::Error) -> CommandError {
    CommandError::usage(format!("cannot write {}: {error}", path.display()))
}
