//! `tenantry.yaml` and the template, read into domain values. Every mistake is told with its place, and before
//! any call leaves the machine.

mod accounts;
mod carried;
mod cedar;
mod check;
mod files;
mod init;
mod project;
#[cfg(test)]
mod reference;
pub mod schema;
mod template;
mod variables;
mod waves;

pub use crate::source::{Problem, Problems};
pub use accounts::{Accounts, Edited, RoleNames, TenantAccount};
pub use files::{Files, Kept};
pub use init::starter;
pub use project::{ArtifactSource, Environment, Project, StageConfig, StoreConfig};
pub use schema::{Directory, Notify, Occasion, Unit};
pub use template::Template;

use std::path::Path;

/// Reads and checks a project; `environment` has the variables that parameters can name.
///
/// # Errors
///
/// Returns every problem found, each with file, line and column where it has one.
pub fn load(files: &Files, environment: Environment, stack: Option<&str>) -> Result<Project, Problems> {
    let project = project::read(files, environment, stack)?;
    let problems = check::check(&project);
    if problems.is_empty() {
        Ok(project)
    } else {
        Err(Problems::new(&project.documents, problems).masked(&project.masks()))
    }
}

/// Reads a project without checking it: to take away what it names, nothing has to be right but that.
///
/// # Errors
///
/// Returns what cannot be read.
pub fn read(files: &Files, environment: Environment, stack: Option<&str>) -> Result<Project, Problems> {
    project::read(files, environment, stack)
}

/// Returns the stacks that a configuration releases, each after those that it depends on: one without a name where it
/// names a template, and the names of several where it names a CDK assembly that has them.
///
/// # Errors
///
/// Says why the configuration or the assembly cannot be read.
pub fn stacks(path: &Path) -> Result<Vec<Option<String>>, Problems> {
    project::stacks(path)
}
