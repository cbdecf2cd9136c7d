//! `tenantry package`.

use serde::Serialize;

use super::subject::Subject;
use crate::cli::error::CommandError;
use crate::cli::workspace::Workspace;
use crate::domain::{Exit, Release, ReleaseId};
use crate::package::explain::Difference;
use crate::report;
use crate::report::text::{BOLD, bytes, styled};

/// What was packaged, for `--output json`.
#[derive(Serialize)]
struct PackageAnswer<'a> {
    #[serde(flatten)]
    release: &'a Release,
    #[serde(skip_serializing_if = "Option::is_none")]
    explained: &'a Option<Explained>,
}

/// How a release differs from the last one.
#[derive(Serialize)]
struct Explained {
    /// The last release; none where this is the first.
    since: Option<ReleaseId>,
    differences: Vec<Difference>,
}

/// Packages and publishes.
pub async fn package(workspace: Workspace, explain: bool) -> Result<Exit, CommandError> {
    workspace
        .conduct(
            async |run| {
                let mut subject = Subject::of_folder(run)?;
                let mut explained = None;
                if explain {
                    let releases = run.engine.releases(&run.project.application).await?;
                    let last = releases.into_iter().find(|release| release.id != subject.release.id);
                    let differences = match &last {
                        Some(last) => subject.differences(run.engine, last).await?,
                        None => Vec::new(),
                    };
                    explained = Some(Explained { since: last.map(|last| last.id), differences });
                }
                subject.publish(run.engine).await?;
                Ok((subject.release, explained))
            },
            |console, (release, explained)| {
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
                if let Some(Explained { since, differences }) = &explained {
                    lines.push(String::new());
                    lines.push(report::differences(since.as_ref(), differences));
                }
                console.answer(&lines.join("\n"), &PackageAnswer { release: &release, explained: &explained })?;
                console.outputs(&[("release", release.id.to_string())])?;
                Ok(Exit::Done)
            },
        )
        .await
}
