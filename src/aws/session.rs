//! A session in each tenant's account, assumed once and renewed before it ends.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use aws_sdk_sts::config::{IdentityCache, Region as SdkRegion};
use aws_sdk_sts::types::AssumedRoleUser;
use aws_smithy_runtime::client::retries::{RetryPartition, TokenBucket};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use tokio::sync::{Mutex as AsyncMutex, OnceCell};

use super::account::Account;
use super::{Tooling, fault, http};
use crate::domain::{AccountId, AlarmState, Fault, FaultKind, Target};
use crate::ports::{Accounts, TenantAccount};

/// How long a session is asked for. Role chaining allows no more than an hour.
/// Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles.html#iam-term-role-chaining>
const SESSION: Duration = Duration::from_hours(1);
/// How long before its end a session is renewed.
const RENEW_BEFORE: Duration = Duration::from_mins(5);
/// Requests in flight in one account: some regions and a few looks at a time.
const PER_ACCOUNT: usize = 8;

/// What an auditor reads in CloudTrail about a visit to a tenant's account.
#[derive(Debug, Clone)]
pub struct Visit {
    /// Name of the sessions: at most 64 characters of `[\w+=,.@-]`.
    pub session_name: String,
    /// The person or job behind them, which no later role in the chain can change.
    pub source_identity: Option<String>,
}

/// The way into all tenants' accounts.
pub struct Sessions {
    tooling: Tooling,
    visit: Arc<Visit>,
    /// One for all tenants: STS limits the caller's account, whichever role is asked for.
    sts: aws_sdk_sts::Client,
    /// One session an account and role; one set of clients a session and region.
    by_role: Mutex<HashMap<String, Arc<Session>>>,
    accounts: Mutex<HashMap<(String, String), Arc<Account>>>,
}

/// A session in a tenant's account.
pub struct Session {
    tooling: Tooling,
    credentials: Arc<TenantCredentials>,
    retries: RetryPartition,
    /// Bounds the requests of one account.
    http: SharedHttpClient,
    /// The account that is truly behind the role.
    account: OnceCell<AccountId>,
}

impl Sessions {
    /// Prepares sessions from the tooling account's credentials. Nothing is called yet.
    pub fn new(tooling: Tooling, visit: Visit) -> Self {
        let retries = RetryPartition::custom("sts").token_bucket(TokenBucket::unlimited()).build();
        let sts = tooling.config.to_builder().http_client(tooling.bounded.clone()).build();
        let sts = aws_sdk_sts::config::Builder::from(&sts).retry_partition(retries).build();
        let (visit, sts) = (Arc::new(visit), aws_sdk_sts::Client::from_conf(sts));
        Self { tooling, visit, sts, by_role: Mutex::default(), accounts: Mutex::default() }
    }

    fn session(&self, target: &Target) -> Arc<Session> {
        let mut sessions = self.by_role.lock().unwrap_or_else(PoisonError::into_inner);
        let key = format!("{} {}", target.access_role, target.id.tenant);
        sessions.entry(key).or_insert_with(|| Arc::new(Session::new(self, target))).clone()
    }
}

impl Session {
    fn new(sessions: &Sessions, target: &Target) -> Self {
        // The SDK's token bucket is shared by all clients of a service: one throttled tenant would use up the retries of
        // a thousand others.
        let retries = RetryPartition::custom(target.id.tenant.clone()).token_bucket(TokenBucket::default()).build();
        let credentials = TenantCredentials {
            sts: sessions.sts.clone(),
            role_arn: target.access_role.clone(),
            tenant: target.id.tenant.clone(),
            external_id: target.external_id.clone(),
            visit: sessions.visit.clone(),
            current: AsyncMutex::new(None),
            spoilt: AtomicBool::new(false),
        };
        Self {
            tooling: sessions.tooling.clone(),
            credentials: Arc::new(credentials),
            retries,
            http: http::bounded(sessions.tooling.bounded.clone(), PER_ACCOUNT),
            account: OnceCell::new(),
        }
    }

    /// Returns a configuration with which clients act in the tenant's account. It is built where it is needed: thousands
    /// that are kept take more memory than all else.
    pub fn config(&self, region: &str) -> SdkConfig {
        self.tooling
            .config
            .to_builder()
            .http_client(self.http.clone())
            .credentials_provider(SharedCredentialsProvider::new(ProvideTenantCredentials(self.credentials.clone())))
            // Our provider keeps the credentials itself, for all services at once.
            .identity_cache(IdentityCache::no_cache())
            .region(SdkRegion::new(region.to_owned()))
            .build()
    }

    /// Returns the retries of this account, which no other one uses up.
    pub fn retries(&self) -> RetryPartition {
        self.retries.clone()
    }

    /// Returns the client without a bound on the requests in flight.
    pub fn unbounded(&self) -> &SharedHttpClient {
        &self.tooling.http
    }

    /// Remembers that AWS takes the current credentials no more: the next call asks for new ones.
    pub fn spoil(&self) {
        self.credentials.spoilt.store(true, Ordering::Relaxed);
    }
}

#[async_trait]
impl Accounts for Sessions {
    async fn alarms(&self, names: &[String]) -> Result<Vec<AlarmState>, Fault> {
        super::alarms::read(&self.tooling.config, names).await
    }

    async fn enter(&self, target: &Target) -> Result<Arc<dyn TenantAccount>, Fault> {
        let session = self.session(target);
        let region = target.id.region.as_str();
        let account = session.account.get_or_try_init(|| session.credentials.enter()).await?;
        if account != &target.account {
            let message =
                format!("{} leads to account {account}, but {} is configured", target.access_role, target.account);
            return Err(Fault::new(FaultKind::WrongAccount, "AssumeRole", message));
        }
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (format!("{} {}", target.access_role, target.id.tenant), region.to_owned());
        let entered = accounts.entry(key).or_insert_with(|| Arc::new(Account::new(session.clone(), region)));
        Ok(entered.clone())
    }
}

/// Credentials of a tenant's session. The SDK's own provider can send no source identity.
///
/// When they end is counted from when they were asked for: the machine's clock may be wrong.
struct TenantCredentials {
    sts: aws_sdk_sts::Client,
    role_arn: String,
    tenant: String,
    external_id: Option<String>,
    visit: Arc<Visit>,
    current: AsyncMutex<Option<(Credentials, Instant)>>,
    /// Whether AWS has refused the current ones, as after a revocation.
    spoilt: AtomicBool,
}

impl TenantCredentials {
    /// Returns credentials that are good for a while, assuming the role anew where need be.
    async fn current(&self) -> Result<Credentials, Fault> {
        let mut current = self.current.lock().await;
        let spoilt = self.spoilt.swap(false, Ordering::Relaxed);
        let asked = Instant::now();
        let lasting = |(_, end): &&(Credentials, Instant)| !spoilt && *end > asked + RENEW_BEFORE;
        if let Some((credentials, _)) = current.as_ref().filter(lasting) {
            return Ok(credentials.clone());
        }
        match (self.assume().await, current.as_ref()) {
            (Ok((credentials, _)), _) => {
                *current = Some((credentials.clone(), asked + SESSION));
                Ok(credentials)
            }
            // What cannot be renewed now is still good for some minutes.
            (Err(_), Some((old, end))) if !spoilt && *end > Instant::now() => Ok(old.clone()),
            // A role that was entered once is renewed later: that it cannot be now pauses the target.
            (Err(fault), Some(_)) => {
                self.spoilt.store(spoilt, Ordering::Relaxed);
                Err(Fault { kind: FaultKind::Credentials, ..fault })
            }
            (Err(fault), None) => Err(fault),
        }
    }

    /// Assumes the role for the first time, and returns the account behind it, as STS tells it.
    async fn enter(&self) -> Result<AccountId, Fault> {
        let mut current = self.current.lock().await;
        let asked = Instant::now();
        let (credentials, account) = self.assume().await?;
        *current = Some((credentials, asked + SESSION));
        Ok(account)
    }

    /// Assumes the role, and returns the session's credentials and its account.
    /// Source: AssumedRoleUser in <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html>
    async fn assume(&self) -> Result<(Credentials, AccountId), Fault> {
        const OPERATION: &str = "AssumeRole";
        let broken = |why: String| Fault::new(FaultKind::Mismatch, OPERATION, why);
        let tag = aws_sdk_sts::types::Tag::builder().key("TenantID").value(&self.tenant).build();
        let answer = self
            .sts
            .assume_role()
            .role_arn(&self.role_arn)
            .role_session_name(&self.visit.session_name)
            .set_source_identity(self.visit.source_identity.clone())
            .set_external_id(self.external_id.clone())
            .tags(tag.map_err(|error| broken(error.to_string()))?)
            .duration_seconds(SESSION.as_secs().try_into().unwrap_or(3600))
            .send()
            .await
            .map_err(|error| fault::read(OPERATION, &error))?;
        let given = answer.credentials().ok_or_else(|| broken("the answer has no credentials".to_owned()))?;
        let arn = answer.assumed_role_user().map(AssumedRoleUser::arn).unwrap_or_default();
        let account = AccountId::new(arn.split(':').nth(4).unwrap_or_default());
        let account =
            account.map_err(|error| broken(format!("the answer does not say whose session it is: {error}")))?;
        let credentials = Credentials::new(
            given.access_key_id(),
            given.secret_access_key(),
            Some(given.session_token().to_owned()),
            None,
            "tenantry",
        );
        Ok((credentials, account))
    }
}

impl std::fmt::Debug for TenantCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TenantCredentials").field("role_arn", &self.role_arn).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct ProvideTenantCredentials(Arc<TenantCredentials>);

impl ProvideCredentials for ProvideTenantCredentials {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async { self.0.current().await.map_err(CredentialsError::provider_error) })
    }
}
