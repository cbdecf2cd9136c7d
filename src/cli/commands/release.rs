//! Making a release: artifacts and template of a folder, packaged and published.

use std::collections::BTreeMap;

use crate::cli::environment::Environment;
use crate::cli::error::CommandError;
use crate::cli::workspace::Workspace;
use crate::config::Project;
use crate::domain::release::Provenance;
use crate::domain::{Exit, Release};
use crate::engine::{Engine, Package};
use crate::event::Event;
use crate::package;
use crate::report::text::{BOLD, bytes, styled};

/// Zips what the configuration names. Nothing leaves this machine.
pub fn build(project: &Project, environment: &Environment, engine: &Engine) -> Result<Package, CommandError> {
    let mut artifacts = BTreeMap::new();
    for (name, source) in &project.artifacts {
        let archive = package::package(&source.path, &source.include, &source.exclude)?;
        engine.events.emit(Event::Packaged {
            artifact: name.clone(),
            entries: archive.entries,
            size: archive.bytes.len() as u64,
            sha256: archive.sha256,
        });
        artifacts.insert(name.clone(), archive.bytes);
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

/// Publishes a package.
pub async fn publish(engine: &Engine, package: Package) -> Result<Release, CommandError> {
    engine.publish(package).await.map_err(|fault| {
        let error = CommandError::from(fault);
        if engine.stop.is_requested() { error.exit(Exit::Detached) } else { error }
    })
}

/// Packages and publishes.
pub async fn package(workspace: Workspace) -> Result<Exit, CommandError> {
    workspace
        .conduct(
            async |project, engine, _, environment| {
                let package = build(project, environment, engine)?;
                publish(engine, package).await
            },
            |console, release: Release| {
                let mut lines = vec![format!("release {}", styled(BOLD, &release.id))];
                for (name, artifact) in &release.artifacts {
                    lines.push(format!(
                        "  {name}: s3://{}/{} ({})",
                        release.bucket,
                        artifact.key,
                        bytes(artifact.size)
                    ));
                }
                lines.push(format!("  template: s3://{}/{}", release.bucket, release.template.key));
                console.answer(&lines.join("\n"), &release)?;
                console.outputs(&[("release", release.id.to_string())])?;
                Ok(Exit::Done)
            },
        )
        .await
}
