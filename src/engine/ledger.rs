//! Which release each target is on: one small object a target, so that no two targets wait for each other.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::domain::{Digest, Fault, FaultKind, ReleaseId, TargetId};
use crate::ports::Store;

use super::Engine;

/// A target's line in the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The release that the target is on; none after its stack was deleted.
    pub release: Option<ReleaseId>,
    /// Since when.
    pub since: Timestamp,
    /// The plan that brought it there, if one did.
    pub plan: Option<Digest>,
}

/// Returns the key of a target's line.
pub fn key(application: &str, stage: &str, target: &TargetId) -> String {
    format!("tenantry/{application}/ledger/{stage}/{}/{}.json", target.tenant, target.region)
}

/// Reads a target's line.
pub async fn read(store: &dyn Store, key: &str) -> Result<Option<(Entry, String)>, Fault> {
    let Some((bytes, version)) = store.get(key).await? else { return Ok(None) };
    let entry = serde_json::from_slice(&bytes).map_err(|error| {
        Fault::new(FaultKind::Mismatch, "GetObject", format!("{key} is not a ledger entry: {error}"))
    })?;
    Ok(Some((entry, version)))
}

/// Writes a target's line, unless it names the release already.
pub async fn write(store: &dyn Store, key: &str, entry: &Entry) -> Result<(), Fault> {
    let known = read(store, key).await?;
    if known.as_ref().is_some_and(|(known, _)| known.release == entry.release) {
        return Ok(());
    }
    let bytes = serde_json::to_vec_pretty(entry).unwrap_or_default();
    store.replace(key, bytes, known.as_ref().map(|(_, version)| version.as_str())).await
}

impl Engine {
    /// Writes a target's line. A ledger that cannot be written is told, and does not make a deployed target a
    /// failed one.
    pub(super) async fn remember(&self, application: &str, stage: &str, target: &TargetId, entry: &Entry) {
        if let Err(fault) = write(self.store.as_ref(), &key(application, stage, target), entry).await {
            self.events.notice(format!("{target}: the ledger could not be written: {fault}"));
        }
    }
}
