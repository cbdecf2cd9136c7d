//! Records that nobody can edit without the application's key.

use serde::{Deserialize, Serialize};

use super::Secrets;
use crate::domain::digest::canonical;

/// A record under the application's seal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed<T> {
    /// What is sealed.
    #[serde(flatten)]
    pub record: T,
    /// Keyed hash of the canonical JSON of everything else.
    seal: String,
}

impl<T: Serialize> Sealed<T> {
    /// Seals a record.
    pub fn new(record: T, secrets: &Secrets) -> Self {
        let seal = seal(&record, secrets);
        Self { record, seal }
    }

    /// Tells whether the record is as it was written.
    pub fn is_intact(&self, secrets: &Secrets) -> bool {
        self.seal == seal(&self.record, secrets)
    }
}

fn seal(record: &impl Serialize, secrets: &Secrets) -> String {
    secrets.seal(&canonical(record))
}
