//! Records in the store: JSON, each under a key of its own.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Engine;
use crate::domain::{Fault, FaultKind};
use crate::ports::Store;

/// Reads a record with its version, and says so where it is not what it should be.
pub async fn read<T: DeserializeOwned>(store: &dyn Store, key: &str) -> Result<Option<(T, String)>, Fault> {
    let Some((bytes, version)) = store.get(key).await? else { return Ok(None) };
    let wrong = |error: serde_json::Error| edited(key, &format!("it cannot be read: {error}"));
    Ok(Some((serde_json::from_slice(&bytes).map_err(wrong)?, version)))
}

/// Returns a record as it is written: for people too, who look into the bucket.
pub fn written(record: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec_pretty(record).expect("records are plain JSON")
}

/// The fault of a record that is not what this program has written.
pub fn edited(key: &str, why: &str) -> Fault {
    Fault::new(FaultKind::Mismatch, "GetObject", format!("{key}: {why}"))
}

impl Engine {
    /// Reads a record.
    pub(super) async fn record<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, Fault> {
        Ok(read(self.store.as_ref(), key).await?.map(|(record, _)| record))
    }
}
