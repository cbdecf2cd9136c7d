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
        if let Some((key, _)) = self.store.get(&at).await? {
            return Ok(key);
        }
        let mut fresh = vec![0; 32];
        getrandom::fill(&mut fresh)
            .map_err(|error| Fault::new(FaultKind::Unreachable, "getrandom", error.to_string()))?;
        if self.store.put_once(&at, fresh.clone()).await? {
            return Ok(fresh);
        }
        // Of two that make a key at once, one is first.
        let key = self.store.get(&at).await?;
        Ok(key.ok_or_else(|| Fault::new(FaultKind::NotFound, "GetObject", format!("{at} vanished")))?.0)
    }
}
