//! How much of something an account may have.

use serde::Serialize;

/// A quota of an account and region, and how much of it is used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct AccountQuota {
    /// Of what, as Service Quotas calls it.
    pub name: &'static str,
    /// Its code there, by which more can be asked for.
    pub code: &'static str,
    /// How much there is.
    pub used: u64,
    /// How much there may be.
    pub limit: u64,
}

impl AccountQuota {
    /// Tells whether there is no room for one more.
    pub fn is_full(&self) -> bool {
        self.used >= self.limit
    }

    /// The part of it that is used, in percent, rounded down.
    pub fn percent(&self) -> u64 {
        self.used.saturating_mul(100) / self.limit.max(1)
    }
}
