//! `tenantry package`.

use super::subject::Subject;
use crate::cli::error::CommandError;
use crate::cli::workspace::Workspace;
use crate::domain::{Exit, Release};
use crate::report::text::{BOLD, bytes, styled};

/// Packages and publishes.
pub async fn package(workspace: Workspace) -> Result<Exit, CommandError> {
    workspace
        .conduct(
            async |run| {
                let mut subject = Subject::of_folder(run)?;
                subject.publish(run.engine).await?;
                Ok(subject.release)
            },
            |console, release: Release| {
                let mut lines = vec![format!("release {}", styled(BOLD, &release.id))];
                for (name, artifact) in release.all_artifacts() {
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
