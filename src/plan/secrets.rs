//! Covering NoEcho parameters, so that a plan can be compared but not read.

use std::collections::BTreeSet;
use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Knows which parameters are secret, and the key under which their values are hashed.
#[derive(Clone, Default)]
pub struct Secrets {
    names: BTreeSet<String>,
    key: Vec<u8>,
}

impl Secrets {
    /// Takes the names of the template's NoEcho parameters, and the application's key. Without a key a short
    /// secret could be found by trying.
    pub fn new(names: BTreeSet<String>, key: Vec<u8>) -> Self {
        Self { names, key }
    }

    /// Returns the value as it may be shown and kept: itself, or its keyed hash where it is secret.
    ///
    /// # Panics
    ///
    /// Never: HMAC takes keys of any length (RFC 2104).
    pub fn cover(&self, name: &str, value: &str) -> String {
        if !self.names.contains(name) {
            return value.to_owned();
        }
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes keys of any length");
        mac.update(name.as_bytes());
        mac.update(&[0]);
        mac.update(value.as_bytes());
        format!("hmac-sha256:{}", hex::encode(mac.finalize().into_bytes()))
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets").field("names", &self.names).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_covered_and_others_are_not() {
        let secrets = Secrets::new(BTreeSet::from(["Password".to_owned()]), b"key".to_vec());
        assert_eq!(secrets.cover("Name", "open"), "open");
        let covered = secrets.cover("Password", "hunter2");
        assert!(covered.starts_with("hmac-sha256:") && !covered.contains("hunter2"));
        assert_eq!(covered, secrets.cover("Password", "hunter2"));
        assert_ne!(covered, secrets.cover("Password", "hunter3"));
        let other_key = Secrets::new(BTreeSet::from(["Password".to_owned()]), b"other".to_vec());
        assert_ne!(covered, other_key.cover("Password", "hunter2"));
        assert!(!format!("{secrets:?}").contains("107"), "the key must not be shown: {secrets:?}");
    }
}
