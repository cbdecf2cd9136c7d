//! Records beside releases: plans, and the key under which secrets are hashed.

use std::collections::BTreeSet;

use super::Engine;
use crate::domain::{Digest, Fault, FaultKind};
use crate::plan::{Plan, Secrets};

/// Returns the key of a plan's record.
fn plan_key(application: &str, digest: Digest) -> String {
    format!("tenantry/{application}/plans/{digest}.json")
}

impl Engine {
    /// Keeps a plan under its digest. Planning the same thing again finds the record and leaves it, or brings
    /// its change sets' names up to date; the digest covers everything that is decided on.
    ///
    /// # Errors
    ///
    /// Returns the store's fault.
    pub async fn keep_plan(&self, plan: &Plan) -> Result<(), Fault> {
        let key = plan_key(&plan.content.application, plan.digest);
        let bytes = serde_json::to_vec_pretty(plan).unwrap_or_default();
        match self.store.get(&key).await? {
            Some((known, _)) if known == bytes => Ok(()),
            Some((_, version)) => self.store.replace(&key, bytes, Some(&version)).await,
            None => self.store.put_once(&key, bytes).await.map(drop),
        }
    }

    /// Reads a plan, and refuses one whose content does not fit its digest.
    ///
    /// # Errors
    ///
    /// Returns the store's fault, or a mismatch where the record was edited.
    pub async fn read_plan(&self, application: &str, digest: Digest) -> Result<Option<Plan>, Fault> {
        let key = plan_key(application, digest);
        let Some((bytes, _)) = self.store.get(&key).await? else { return Ok(None) };
        let wrong = |why: String| Fault::new(FaultKind::Mismatch, "GetObject", format!("{key}: {why}"));
        let plan: Plan = serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
        if plan.content.digest() != digest || plan.digest != digest {
            return Err(wrong("the record was edited: its content does not fit its digest".to_owned()));
        }
        Ok(Some(plan))
    }

    /// Returns what covers these NoEcho parameters in plans. The key is made once for an application and kept in
    /// the store, where only the tooling account reads; without secrets none is needed.
    ///
    /// # Errors
    ///
    /// Returns the store's fault, or one of the system's source of random bytes.
    pub async fn secrets(&self, application: &str, names: BTreeSet<String>) -> Result<Secrets, Fault> {
        if names.is_empty() {
            return Ok(Secrets::default());
        }
        let at = format!("tenantry/{application}/digest-key");
        if self.store.get(&at).await?.is_none() {
            let mut fresh = vec![0; 32];
            getrandom::fill(&mut fresh)
                .map_err(|error| Fault::new(FaultKind::Unreachable, "getrandom", error.to_string()))?;
            self.store.put_once(&at, fresh).await?;
        }
        // Read again: of two that made a key at once, one was first.
        let key = self.store.get(&at).await?;
        let key = key.ok_or_else(|| Fault::new(FaultKind::NotFound, "GetObject", format!("{at} vanished")))?.0;
        Ok(Secrets::new(names, key))
    }
}
