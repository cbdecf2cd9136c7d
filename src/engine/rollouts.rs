//! What became of each rollout, and which releases have finished in which stage.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Engine, Finished, ledger};
use crate::domain::{Digest, Exit, Fault, Identity, Outcome, ReleaseId, TargetId};
use crate::plan::{Origin, Plan};

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
            fence: self.lease.as_ref().map_or(0, |lease| lease.fence),
            begun,
            ended: self.events.now(),
            targets: finished.iter().map(ended).collect(),
        };
        let mut records: Vec<String> = id.map(|id| rollout_key(&content.application, id)).into_iter().collect();
        if plan.selection.is_whole() && matches!(exit, Exit::Done | Exit::Tolerated) {
            records.push(finished_key(&content.application, &content.stage, &content.release));
        }
        let bytes = serde_json::to_vec_pretty(&rollout).unwrap_or_default();
        for key in records {
            if let Err(fault) = self.store.put_once(&key, bytes.clone()).await {
                self.events.notice(format!("how the rollout ended could not be kept: {fault}"));
            }
        }
    }

    /// Reads how a rollout ended.
    ///
    /// # Errors
    ///
    /// Returns the store's fault.
    pub async fn rollout(&self, application: &str, id: &str) -> Result<Option<Rollout>, Fault> {
        self.read_json(&rollout_key(application, id)).await
    }

    /// Tells whether a release has finished in a stage: a rollout of it to the whole stage has ended well, or each of
    /// the stage's targets is on it.
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
        if self.store.get(&finished_key(application, stage, release)).await?.is_some() {
            return Ok(true);
        }
        let ledger = self.ledger(application, stage, targets).await?;
        let is_on =
            |entry: &Option<ledger::Entry>| entry.as_ref().and_then(|entry| entry.release.as_ref()) == Some(release);
        Ok(!ledger.is_empty() && ledger.iter().all(|(_, entry)| is_on(entry)))
    }
}
