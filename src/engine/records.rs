//! Records in the store: JSON, each under a key of its own.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Engine;
use crate::domain::{Fault, FaultKind};
use crate::plan::Secrets;
use crate::ports::Store;

/// Reads a record with its version, and says so where it is not what it should be.
pub async fn read<T: DeserializeOwned>(store: &dyn Store, key: &str) -> Result<Option<(T, String)>, Fault> {
    let Some((bytes, version)) = store.get(key).await? else { return Ok(None) };
    Ok(Some((parsed(key, &bytes)?, version)))
}

/// Reads what a record says. Fails with a mismatch where that is not what it should be.
pub fn parsed<T: DeserializeOwned>(key: &str, bytes: &[u8]) -> Result<T, Fault> {
    serde_json::from_slice(bytes).map_err(|error| edited(key, &format!("it cannot be read: {error}")))
}

/// Returns a record as it is written: for people too, who look into the bucket.
pub fn written(record: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec_pretty(record).expect("records are plain JSON")
}

/// What may repeat a parameter, by its key: what tenants' stacks say, and the names of their resources.
const FREE_TEXTS: [&str; 6] = ["reason", "hint", "message", "text", "physical_id", "check"];

/// Returns a record as JSON, without the values that nobody may read. Only free texts are covered: a secret may be as
/// short as a word that the record's own keys and names have too.
pub fn covered(record: &impl Serialize, secrets: &Secrets) -> Value {
    fn cover(value: &mut Value, secrets: &Secrets) {
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    match value {
                        Value::String(text) if FREE_TEXTS.contains(&key.as_str()) => *text = secrets.cover_known(text),
                        other => cover(other, secrets),
                    }
                }
            }
            Value::Array(list) => list.iter_mut().for_each(|value| cover(value, secrets)),
            _ => {}
        }
    }
    let mut value = serde_json::to_value(record).expect("records are plain JSON");
    cover(&mut value, secrets);
    value
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
