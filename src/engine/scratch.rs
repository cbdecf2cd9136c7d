//! Records that are kept for as long as the process lives: of the stacks without which there is no store, and of tests.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use crate::domain::{Digest, Fault, FaultKind};
use crate::ports::Store;

/// A store in memory.
#[derive(Default)]
pub struct Scratch(Mutex<BTreeMap<String, Vec<u8>>>);

#[async_trait]
impl Store for Scratch {
    async fn ready(&self) -> Result<(), Fault> {
        Ok(())
    }

    async fn put_content(
        &self,
        key: &str,
        bytes: Bytes,
        _: Digest,
        _: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<bool, Fault> {
        self.put_once(key, bytes.into()).await
    }

    async fn put_once(&self, key: &str, bytes: Vec<u8>) -> Result<bool, Fault> {
        let mut objects = self.objects();
        let new = !objects.contains_key(key);
        objects.entry(key.to_owned()).or_insert(bytes);
        Ok(new)
    }

    async fn replace(&self, key: &str, bytes: Vec<u8>, version: Option<&str>) -> Result<String, Fault> {
        let mut objects = self.objects();
        if objects.get(key).map(|known| Digest::of(known).short()).as_deref() != version {
            return Err(Fault::new(FaultKind::Conflict, "PutObject", "somebody else wrote it"));
        }
        let version = Digest::of(&bytes).short();
        objects.insert(key.to_owned(), bytes);
        Ok(version)
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, Fault> {
        Ok(self.objects().keys().filter(|key| key.starts_with(prefix)).cloned().collect())
    }

    async fn verify(&self, key: &str, sha256: Digest) -> Result<(), Fault> {
        match self.objects().get(key) {
            Some(bytes) if Digest::of(bytes) == sha256 => Ok(()),
            _ => Err(Fault::new(FaultKind::Mismatch, "GetObject", "another content")),
        }
    }

    async fn get(&self, key: &str) -> Result<Option<(Vec<u8>, String)>, Fault> {
        Ok(self.objects().get(key).map(|bytes| (bytes.clone(), Digest::of(bytes).short())))
    }

    fn url(&self, key: &str) -> String {
        format!("https://bucket/{key}")
    }
}

impl Scratch {
    fn objects(&self) -> MutexGuard<'_, BTreeMap<String, Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
