//! `tenantry releases`, `tenantry unlock`.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::cli::error::CommandError;
use crate::cli::workspace::{Run, Workspace};
use crate::domain::{Exit, Release, Shard, TargetId};
use crate::engine::Lock;
use crate::plan::Selection;
use crate::report;

/// A release, and how many targets of each stage are on it.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Listed {
    #[serde(flatten)]
    release: Release,
    /// Targets that are on it, by stage.
    on: BTreeMap<String, usize>,
    /// Tenants that are pinned to it.
    pinned: Vec<String>,
}

/// Lists the releases in the store, the latest packaged first.
pub async fn releases(workspace: Workspace) -> Result<Exit, CommandError> {
    workspace
        .conduct(
            async |run| {
                let Run { project, engine, .. } = run;
                let mut listed: Vec<Listed> = Vec::new();
                for release in engine.releases(&project.application).await? {
                    listed.push(Listed { release, on: BTreeMap::new(), pinned: Vec::new() });
                }
                for stage in &project.stages {
                    let targets = project.targets(stage, &project.release_to_come(), &Selection::default())?;
                    for target in &targets {
                        let pin = listed.iter_mut().find(|listed| Some(&listed.release.id) == target.pin.as_ref());
                        // Those of one tenant follow each other.
                        if let Some(listed) = pin.filter(|listed| listed.pinned.last() != Some(&target.id.tenant)) {
                            listed.pinned.push(target.id.tenant.clone());
                        }
                    }
                    let ids: Vec<TargetId> = targets.into_iter().map(|target| target.id).collect();
                    for (_, entry) in engine.ledger(&project.application, &stage.name, ids).await? {
                        let release = entry.and_then(|entry| entry.release);
                        if let Some(on) = listed.iter_mut().find(|listed| Some(&listed.release.id) == release.as_ref())
                        {
                            *on.on.entry(stage.name.clone()).or_default() += 1;
                        }
                    }
                }
                Ok((listed, project.stages.iter().map(|stage| stage.name.clone()).collect::<Vec<_>>()))
            },
            |console, (listed, stages)| {
                let mut table = vec![["RELEASE", "PACKAGED", "COMMIT", "ON", "PINNED"].map(str::to_owned)];
                for Listed { release, on, pinned } in &listed {
                    let provenance = &release.provenance;
                    let on: Vec<String> =
                        stages.iter().filter_map(|stage| Some(format!("{stage} {}", on.get(stage)?))).collect();
                    let or_dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
                    table.push([
                        release.id.to_string(),
                        provenance.packaged.map_or("-".to_owned(), |at| at.strftime("%Y-%m-%d %H:%M").to_string()),
                        or_dash(provenance.commit.as_deref().unwrap_or_default().chars().take(12).collect()),
                        or_dash(on.join(", ")),
                        or_dash(pinned.join(", ")),
                    ]);
                }
                console.answer(&report::table(&table), &listed)?;
                Ok(Exit::Done)
            },
        )
        .await
}

/// Takes a stage's lock away from a run that is dead.
pub async fn unlock(workspace: Workspace, stage: &str, shard: Option<Shard>, id: &str) -> Result<Exit, CommandError> {
    let stage = workspace.project.stage(stage)?.name.clone();
    workspace
        .conduct(
            async |run| {
                let unlocked = run.engine.unlock(&run.project.application, &stage, shard, id).await?;
                unlocked.map_err(|found| {
                    let why = match found {
                        None => format!("stage {stage} was never locked"),
                        Some(lock) if !lock.held => format!("stage {stage} is not locked"),
                        Some(lock) => format!(
                            "the lock of {stage} is {}, held by {} since {:.0}, and not {id}",
                            lock.id, lock.owner, lock.since
                        ),
                    };
                    CommandError::usage(why).exit(Exit::Refused)
                })
            },
            |console, lock: Lock| {
                console.answer(&format!("the lock {} of {} is taken away", lock.id, lock.owner), &lock)?;
                Ok(Exit::Done)
            },
        )
        .await
}
