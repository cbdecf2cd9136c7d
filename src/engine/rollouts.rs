//! What became of each rollout, and which releases have finished in which stage.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::records::{covered, read, written};
use super::{Engine, Finished};
use crate::domain::{Digest, Exit, Fault, FaultKind, Identity, Outcome, ReleaseId, TargetId};
use crate::plan::{Content, Origin, Plan, Secrets};

/// One rollout, as it is kept in the store when it has ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Rollout {
    /// The rollout's name.
    pub id: String,
    /// The stage.
    pub stage: String,
    /// The release.
    pub release: ReleaseId,
    /// How the release came to the stage.
    pub origin: Origin,
    /// The plan that was executed.
    pub plan: Digest,
    /// Who ran it.
    pub by: Identity,
    /// The number of the lock under which it ran.
    pub fence: u64,
    /// When it began.
    pub begun: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// Whether it ended well: done, with no more failures than are tolerated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub well: Option<bool>,
    /// What the process answered for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<u8>,
    /// How every target ended.
    pub targets: Vec<Ended>,
}

/// How one target of a rollout ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ended {
    /// The target.
    #[serde(flatten)]
    pub target: TargetId,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: Outcome,
}

fn rollout_key(application: &str, id: &str) -> String {
    format!("tenantry/{application}/rollouts/{id}.json")
}

/// That a release has finished in a stage, and whether that still counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Proof {
    release: ReleaseId,
    stage: String,
    /// When the rollout that proved it ended.
    at: Timestamp,
    /// When the stage was rolled back to another release, if it was since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    withdrawn: Option<Timestamp>,
}

fn finished_key(application: &str, stage: &str, release: &ReleaseId) -> String {
    format!("tenantry/{application}/finished/{stage}/{release}.json")
}

impl Engine {
    /// Returns the name of a rollout of this run that begins now.
    pub fn rollout_id(&self, stage: &str) -> String {
        let hash = Digest::of(format!("{} {stage}", self.run)).short();
        format!("{}-{stage}-{}", self.events.now().strftime("%Y%m%dT%H%M%SZ"), &hash[..6])
    }

    /// Keeps how a rollout ended, and that the release has finished in the stage if all of the stage was meant. A
    /// store that cannot be written is told, and makes no deployed target a failed one.
    /// Where nothing was to be executed there is no rollout, and no name for one.
    pub async fn keep_rollout(
        &self,
        id: Option<&str>,
        plan: &Plan,
        secrets: &Secrets,
        begun: Timestamp,
        finished: &[Finished],
        exit: Exit,
    ) {
        let content = &plan.content;
        let ended = |(target, outcome): &Finished| Ended { target: target.clone(), outcome: outcome.clone() };
        let rollout = Rollout {
            id: id.unwrap_or_default().to_owned(),
            stage: content.stage.clone(),
            release: content.release.clone(),
            origin: content.origin.clone(),
            plan: plan.digest,
            by: self.by.clone(),
            fence: self.fence(),
            begun,
            ended: self.events.now(),
            well: Some(matches!(exit, Exit::Done | Exit::Tolerated)),
            exit: Some(exit as u8),
            targets: finished.iter().map(ended).collect(),
        };
        let keep = async {
            if let Some(id) = id {
                // What tenants' stacks say can repeat a parameter.
                let (key, record) = (rollout_key(&content.application, id), written(&covered(&rollout, secrets)));
                if !self.store.put_once(&key, record.clone()).await? {
                    // One that was resumed has ended before.
                    let known = read::<Rollout>(self.store.as_ref(), &key).await?;
                    if let Some((newer, _)) = known.as_ref().filter(|(known, _)| known.fence > rollout.fence) {
                        let why = format!("a newer owner of the lock ({}) has written it", newer.fence);
                        return Err(Fault::new(FaultKind::Conflict, "PutObject", why));
                    }
                    let version = known.as_ref().map(|(_, version)| version.as_str());
                    self.store.replace(&key, record, version).await?;
                }
            }
            let is_there = |(_, outcome): &Finished| matches!(outcome, Outcome::Deployed | Outcome::Unchanged);
            let is_well = matches!(exit, Exit::Done | Exit::Tolerated);
            if plan.selection.is_whole() && is_well && finished.iter().any(is_there) {
                self.prove(content, &content.release, true).await?;
            }
            Ok::<(), Fault>(())
        };
        if let Err(fault) = keep.await {
            self.events.notice(format!("how the rollout ended could not be kept: {fault}"));
        }
    }

    /// Takes back that releases have finished in the plan's stage, where all of the stage goes back to another one:
    /// what had to be rolled back is not to be promoted.
    ///
    /// # Errors
    ///
    /// Returns the store's fault.
    pub async fn withdraw_proofs(&self, plan: &Plan) -> Result<(), Fault> {
        let content = &plan.content;
        if content.origin != Origin::Rollback || !plan.selection.is_whole() {
            return Ok(());
        }
        let targets = content.targets.iter().map(|target| target.target.clone()).collect();
        let lines = self.ledger(&content.application, &content.stage, targets).await?;
        let left = lines.iter().filter_map(|(_, entry)| entry.as_ref()).flat_map(|entry| entry.since(&content.release));
        let left: BTreeSet<&ReleaseId> = left.collect();
        for release in left {
            self.prove(content, release, false).await?;
        }
        Ok(())
    }

    /// Writes that a release has finished in the plan's stage, or that this counts no longer.
    async fn prove(&self, content: &Content, release: &ReleaseId, finished: bool) -> Result<(), Fault> {
        let Content { application, stage, .. } = content;
        let key = finished_key(application, stage, release);
        let known = read::<Proof>(self.store.as_ref(), &key).await?;
        let now = self.events.now();
        let proof = match &known {
            None if !finished => return Ok(()),
            Some((proof, _)) if proof.withdrawn.is_none() == finished => return Ok(()),
            Some((proof, _)) if !finished => Proof { withdrawn: Some(now), ..proof.clone() },
            _ => Proof { release: release.clone(), stage: stage.clone(), at: now, withdrawn: None },
        };
        self.store.replace(&key, written(&proof), known.as_ref().map(|(_, version)| version.as_str())).await.map(drop)
    }

    /// Reads how a rollout ended.
    ///
    /// # Errors
    ///
    /// Returns the store's fault.
    pub async fn rollout(&self, application: &str, id: &str) -> Result<Option<Rollout>, Fault> {
        self.record(&rollout_key(application, id)).await
    }

    /// Tells whether a release has finished in a stage: a rollout of it to the whole stage has ended well, or each of
    /// the stage's targets is on it; and the stage has not been rolled back since.
    ///
    /// # Errors
    ///
    /// Returns the store's fault.
    pub async fn has_finished(
        &self,
        application: &str,
        stage: &str,
        targets: Vec<TargetId>,
        release: &ReleaseId,
    ) -> Result<bool, Fault> {
        match self.record::<Proof>(&finished_key(application, stage, release)).await? {
            Some(proof) => Ok(proof.withdrawn.is_none()),
            None => self.are_on(application, stage, targets, release).await,
        }
    }
}
