//! One client of CloudFormation a region, for all tenants. One of its own for each tenant keeps 18 KB, and building it costs as
//! much time as a call; so that whose call it is goes with the call, and not with the client.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use aws_sdk_cloudformation::Client;
use aws_sdk_cloudformation::config::{Builder, IdentityCache, Region};
use aws_smithy_runtime::client::retries::{RetryPartition, TokenBucket};
use tokio::task::futures::TaskLocalFuture;

use super::agent::UserAgent;
use super::session::Session;
use super::{Tooling, http};

tokio::task_local! {
    /// Whose call it is that this task makes.
    static CALLER: Arc<Session>;
}

/// A call in a tenant's account.
pub trait Within: Future + Sized {
    /// Makes the call with the session's credentials, and within its bound on the requests in flight.
    fn within(self, session: &Arc<Session>) -> TaskLocalFuture<Arc<Session>, Self> {
        CALLER.scope(session.clone(), self)
    }
}

impl<F: Future> Within for F {}

/// The clients, by region.
#[derive(Default)]
pub struct Clients(Mutex<HashMap<String, Client>>);

impl Clients {
    /// Returns a region's client. Its calls have to be made [`Within::within`] a session; others are refused.
    pub fn get(&self, tooling: &Tooling, region: &str) -> Client {
        let mut clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(region) {
            return client.clone();
        }
        // One token bucket for all would let a throttled tenant use up the retries of a thousand others. How often a call is
        // tried again is bounded in any case.
        let retries = RetryPartition::custom("tenants").token_bucket(TokenBucket::unlimited()).build();
        let permits = || CALLER.try_with(|session| session.permits().clone()).ok();
        let config = Builder::from(&tooling.config)
            .region(Region::new(region.to_owned()))
            .http_client(http::bounded_by(tooling.bounded.clone(), permits))
            .retry_partition(retries)
            .interceptor(UserAgent::new(&tooling.config))
            .stalled_stream_protection(super::small_requests())
            .credentials_provider(SharedCredentialsProvider::new(OfTheCaller))
            // Sessions keep their credentials themselves.
            .identity_cache(IdentityCache::no_cache())
            .build();
        let client = Client::from_conf(config);
        clients.insert(region.to_owned(), client.clone());
        client
    }
}

/// The credentials of the session whose call it is (safety rule 1: never those of another, and never this process's own).
#[derive(Debug)]
struct OfTheCaller;

impl ProvideCredentials for OfTheCaller {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async {
            let session = CALLER.try_with(Arc::clone);
            let session = session.map_err(|_| CredentialsError::not_loaded("a call in no tenant's account"))?;
            session.credentials().await.map_err(CredentialsError::provider_error)
        })
    }
}
