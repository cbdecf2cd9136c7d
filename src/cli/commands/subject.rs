//! What is released: a folder that is packaged now, or a release that is in the store already.

use std::collections::BTreeMap;

use crate::cli::environment::Environment;
use crate::cli::error::CommandError;
use crate::config::{Project, StageConfig, Template};
use crate::domain::release::Provenance;
use crate::domain::{Exit, Release, Target};
use crate::engine::{Engine, Package};
use crate::event::Event;
use crate::package;
use crate::plan::{Secrets, Selection};

/// A release with its own template, which need not be the one in the folder.
pub struct Subject {
    /// The release.
    pub release: Release,
    template: Template,
    package: Option<Package>,
}

impl Subject {
    /// Packages the folder. Nothing leaves this machine.
    pub fn of_folder(project: &Project, environment: &Environment, engine: &Engine) -> Result<Self, CommandError> {
        let package = build(project, environment, engine)?;
        let template = parse(&package.template)?;
        Ok(Self { release: package.release(), template, package: Some(package) })
    }

    /// Reads a release and its template from the store.
    pub async fn of_release(project: &Project, engine: &Engine, id: &str) -> Result<Self, CommandError> {
        let release = engine.release(&project.application, id).await?;
        let release = release
            .ok_or_else(|| CommandError::usage(format!("there is no release {id} of {}", project.application)))?;
        let template = parse(&engine.template(&release).await?)?;
        Ok(Self { release, template, package: None })
    }

    /// Returns the selected targets of a stage, with the parameters that this release's template has. An older
    /// release may know fewer than the configuration, and must be releasable all the same.
    pub fn targets(
        &self,
        project: &Project,
        engine: &Engine,
        stage: &StageConfig,
        selection: &Selection,
    ) -> Result<Vec<Target>, CommandError> {
        let mut targets = project.targets(stage, &self.release, selection)?;
        for name in self.template.fit(&mut targets).map_err(CommandError::usage)? {
            engine
                .events
                .notice(format!("the template of release {} has no parameter {name}: it is left out", self.release.id));
        }
        Ok(targets)
    }

    /// Brings the package to the store, if it was made now.
    pub async fn publish(&mut self, engine: &Engine) -> Result<(), CommandError> {
        let Some(package) = self.package.take() else { return Ok(()) };
        engine.publish(package).await.map(drop).map_err(|fault| {
            let error = CommandError::from(fault);
            if engine.stop.is_requested() { error.exit(Exit::Detached) } else { error }
        })
    }

    /// Returns what covers the secrets of this release's template.
    pub async fn secrets(&self, engine: &Engine) -> Result<Secrets, CommandError> {
        Ok(engine.secrets(&self.release.application, self.template.no_echo()).await?)
    }
}

fn parse(template: &[u8]) -> Result<Template, CommandError> {
    let text = String::from_utf8_lossy(template);
    Template::parse(&text).map_err(|why| CommandError::usage(format!("the release's template cannot be read: {why}")))
}

/// Zips what the configuration names. Nothing leaves this machine.
fn build(project: &Project, environment: &Environment, engine: &Engine) -> Result<Package, CommandError> {
    let mut artifacts = BTreeMap::new();
    for (name, source) in &project.artifacts {
        let archive = package::package(&source.path, &source.include, &source.exclude)?;
        engine.events.emit(Event::Packaged {
            artifact: name.clone(),
            entries: archive.entries,
            size: archive.bytes.len() as u64,
            sha256: archive.sha256,
        });
        artifacts.insert(name.clone(), archive);
    }
    let template = project.template_document();
    Ok(Package {
        application: project.application.clone(),
        bucket: project.store.bucket.clone(),
        prefix: project.store.prefix.clone(),
        artifacts,
        template: template.text.clone().into_bytes(),
        template_extension: if template.text.trim_start().starts_with('{') { "json" } else { "yaml" },
        provenance: Provenance {
            commit: environment.commit.clone(),
            tool_version: env!("CARGO_PKG_VERSION").to_owned(),
        },
    })
}
