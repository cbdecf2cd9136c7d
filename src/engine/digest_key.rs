//! The application's key, under which secrets are hashed and records sealed.

use super::Engine;
use crate::domain::{Fault, FaultKind};

impl Engine {
    /// Returns the key. It is made once for an application and kept in the store, where only the tooling account reads.
    ///
    /// # Errors
    ///
    /// Returns the store's fault, or one of the system's source of random bytes.
    pub async fn digest_key(&self, application: &str) -> Result<Vec<u8>, Fault> {
        let at = format!("tenantry/{application}/digest-key");
        if self.store.get(&at).await?.is_none() {
            let mut fresh = vec![0; 32];
            getrandom::fill(&mut fresh)
                .map_err(|error| Fault::new(FaultKind::Unreachable, "getrandom", error.to_string()))?;
            self.store.put_once(&at, fresh).await?;
        }
        // Read again: of two that made a key at once, one was first.
        let key = self.store.get(&at).await?;
        Ok(key.ok_or_else(|| Fault::new(FaultKind::NotFound, "GetObject", format!("{at} vanished")))?.0)
    }
}
