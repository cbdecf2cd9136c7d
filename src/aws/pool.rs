//! Clients of CloudFormation for the accounts that are in work. One keeps 18 KB, and a fleet of ten thousand is never in
//! work at one time: who has not called for a while builds a client anew.

use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};

use aws_sdk_cloudformation::Client;
use lru::LruCache;

/// More than are in work at a time: 256 targets while it is looked at them and planned, fewer while they are executed.
const MOST: NonZeroUsize = NonZeroUsize::new(320).expect("it is not zero");

/// The clients, by numbers that their owners have.
pub struct Clients(Mutex<LruCache<u64, Client>>);

impl Default for Clients {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(MOST)))
    }
}

impl Clients {
    /// Returns an owner's client, building it where it is not there any more. What is in use elsewhere stays in use.
    pub fn get(&self, owner: u64, build: impl FnOnce() -> Client) -> Client {
        let mut clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        clients.get_or_insert(owner, build).clone()
    }
}
