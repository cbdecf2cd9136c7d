//! A session in each tenant's account, assumed once and renewed before it ends.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use aws_sdk_sts::config::{IdentityCache, Region as SdkRegion};
use aws_sdk_sts::types::AssumedRoleUser;
use aws_smithy_runtime::client::retries::{RetryPartition, TokenBucket};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use tokio::sync::{Mutex as AsyncMutex, OnceCell, Semaphore};
use tokio::time::Instant;

use super::account::Account;
use super::agent::UserAgent;
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
#[derive(Debug, Clone, Default)]
pub struct Visit {
    /// Name of the sessions: at most 64 characters of `[\w+=,.@-]`.
    pub session_name: String,
    /// The person or job behind them, which no later role in the chain can change.
    pub source_identity: Option<String>,
    /// Whether nothing is done but planning: then the role for that is assumed, where a tenant has one.
    pub plans: bool,
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
    /// None where the credentials around this process are the account's own.
    credentials: Option<Arc<TenantCredentials>>,
    retries: RetryPartition,
    /// Bounds the requests in flight in the account.
    permits: Arc<Semaphore>,
    /// The account that is truly behind the role.
    account: OnceCell<AccountId>,
}

impl Sessions {
    /// Prepares sessions from the tooling account's credentials. Nothing is called yet.
    pub fn new(tooling: Tooling, visit: Visit) -> Self {
        let (visit, sts) = (Arc::new(visit), sts(&tooling));
        Self { tooling, visit, sts, by_role: Mutex::default(), accounts: Mutex::default() }
    }

    /// Returns the role by which a target is entered.
    fn role<'a>(&self, target: &'a Target) -> &'a str {
        target.plan_role.as_deref().filter(|_| self.visit.plans).unwrap_or(&target.access_role)
    }

    fn session(&self, target: &Target) -> Arc<Session> {
        let mut sessions = self.by_role.lock().unwrap_or_else(PoisonError::into_inner);
        let role = self.role(target);
        let fresh = || {
            let identity = SessionIdentity {
                tenant: Some(target.id.tenant.clone()),
                external_id: target.external_id.clone(),
                visit: self.visit.clone(),
            };
            Arc::new(Session::new(&self.tooling, &target.id.tenant, self.sts.clone(), role, identity))
        };
        sessions.entry(format!("{role} {}", target.id.tenant)).or_insert_with(fresh).clone()
    }
}

/// Returns a client of STS for all accounts: STS limits the caller's account, whichever role is asked for.
pub(super) fn sts(tooling: &Tooling) -> aws_sdk_sts::Client {
    let retries = RetryPartition::custom("sts").token_bucket(TokenBucket::unlimited()).build();
    let sts = tooling.config.to_builder().http_client(tooling.bounded.clone()).build();
    let sts = aws_sdk_sts::config::Builder::from(&sts).retry_partition(retries).interceptor(UserAgent::new(&sts));
    aws_sdk_sts::Client::from_conf(sts.stalled_stream_protection(super::small_requests()).build())
}

impl Session {
    /// Prepares a session in a role. Nothing is called yet.
    pub(super) fn new(
        tooling: &Tooling,
        name: &str,
        sts: aws_sdk_sts::Client,
        role_arn: &str,
        identity: SessionIdentity,
    ) -> Self {
        let credentials = TenantCredentials {
            sts,
            role_arn: role_arn.to_owned(),
            identity,
            current: AsyncMutex::new(None),
            spoilt: AtomicBool::new(false),
        };
        Self { credentials: Some(Arc::new(credentials)), ..Self::own(tooling, name) }
    }

    /// A session with the credentials around this process.
    pub(super) fn own(tooling: &Tooling, name: &str) -> Self {
        // The SDK's token bucket is shared by all clients of a service: one throttled tenant would use up the retries of
        // a thousand others.
        let retries = RetryPartition::custom(name.to_owned()).token_bucket(TokenBucket::default()).build();
        Self {
            tooling: tooling.clone(),
            credentials: None,
            retries,
            permits: Arc::new(Semaphore::new(PER_ACCOUNT)),
            account: OnceCell::new(),
        }
    }

    /// Assumes the role, if there is one, and compares the account behind it with the one expected (safety rule 1).
    pub(super) async fn enter(&self, by: &str, expected: &AccountId) -> Result<(), Fault> {
        let account = self.account.get_or_try_init(|| async {
            match &self.credentials {
                Some(credentials) => credentials.enter().await,
                None => Ok(self.tooling.caller().await?.account),
            }
        });
        let account = account.await?;
        if account != expected {
            let message = format!("{by} leads to account {account}, but {expected} is configured");
            return Err(Fault::new(FaultKind::WrongAccount, "AssumeRole", message));
        }
        Ok(())
    }

    /// Returns a configuration with which clients act in the tenant's account. It is built where it is needed: thousands
    /// that are kept take more memory than all else.
    pub fn config(&self, region: &str) -> SdkConfig {
        let permits = self.permits.clone();
        let http = http::bounded_by(self.tooling.bounded.clone(), move || Some(permits.clone()));
        let config = self.tooling.config.to_builder().http_client(http);
        let config = config.region(SdkRegion::new(region.to_owned()));
        let Some(credentials) = self.credentials.clone() else { return config.build() };
        config
            .credentials_provider(SharedCredentialsProvider::new(ProvideTenantCredentials(credentials)))
            // Our provider keeps the credentials itself, for all services at once.
            .identity_cache(IdentityCache::no_cache())
            .build()
    }

    /// Returns the client of CloudFormation in a region: the one of all tenants, or one of its own where the credentials are
    /// this process's own.
    pub fn cloudformation(&self, region: &str) -> aws_sdk_cloudformation::Client {
        if self.credentials.is_some() {
            return self.tooling.clients.get(&self.tooling, region);
        }
        let config = aws_sdk_cloudformation::config::Builder::from(&self.config(region));
        aws_sdk_cloudformation::Client::from_conf(config.retry_partition(self.retries()).build())
    }

    /// Returns the session's credentials, as they are now.
    pub(super) async fn credentials(&self) -> Result<Credentials, Fault> {
        match &self.credentials {
            Some(credentials) => credentials.current().await,
            None => Err(Fault::new(FaultKind::Credentials, "AssumeRole", "this session has no role")),
        }
    }

    /// Renews the credentials where they end soon.
    pub(super) async fn renew(&self) -> Result<(), Fault> {
        match &self.credentials {
            Some(credentials) => credentials.current().await.map(drop),
            // The SDK renews those of this process.
            None => Ok(()),
        }
    }

    /// Returns what bounds the requests in flight in the account.
    pub fn permits(&self) -> &Arc<Semaphore> {
        &self.permits
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
        if let Some(credentials) = &self.credentials {
            credentials.spoilt.store(true, Ordering::Relaxed);
        }
    }
}

#[async_trait]
impl Accounts for Sessions {
    async fn state(&self, account: &AccountId) -> Result<String, Fault> {
        self.tooling.state_of(account).await
    }

    async fn alarms(&self, names: &[String]) -> Result<Vec<AlarmState>, Fault> {
        super::alarms::read((&self.tooling.config).into(), names).await
    }

    async fn enter(&self, target: &Target) -> Result<Arc<dyn TenantAccount>, Fault> {
        let session = self.session(target);
        let (role, region) = (self.role(target), target.id.region.as_str());
        session.enter(role, &target.account).await?;
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (format!("{role} {}", target.id.tenant), region.to_owned());
        let entered = accounts.entry(key).or_insert_with(|| Arc::new(Account::new(session.clone(), region)));
        Ok(entered.clone())
    }
}

/// What a session says of itself.
pub(super) struct SessionIdentity {
    /// Its tag `TenantID`; none for a role that takes neither tags nor a source identity, as the one that Organizations
    /// makes in new accounts.
    pub(super) tenant: Option<String>,
    /// What the role's trust policy asks for.
    pub(super) external_id: Option<String>,
    /// Whose visit it is.
    pub(super) visit: Arc<Visit>,
}

/// Credentials of a tenant's session. The SDK's own provider can send no source identity.
///
/// When they end is counted from when they were asked for: the machine's clock may be wrong.
struct TenantCredentials {
    sts: aws_sdk_sts::Client,
    role_arn: String,
    identity: SessionIdentity,
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
        let SessionIdentity { tenant, external_id, visit } = &self.identity;
        let tag = tenant.as_ref().map(|name| aws_sdk_sts::types::Tag::builder().key("TenantID").value(name).build());
        let tags = tag.transpose().map_err(|error| broken(error.to_string()))?.map(|tag| vec![tag]);
        let answer = self
            .sts
            .assume_role()
            .role_arn(&self.role_arn)
            .role_session_name(&visit.session_name)
            .set_source_identity(visit.source_identity.clone().filter(|_| tenant.is_some()))
            .set_external_id(external_id.clone())
            .set_tags(tags)
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

#[cfg(test)]
mod tests {
    use aws_sdk_sts::config::{BehaviorVersion, retry::RetryConfig};
    use aws_smithy_runtime_api::client::http::{
        HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn,
    };
    use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
    use aws_smithy_types::body::SdkBody;
    use tokio::time::advance;

    use super::*;
    use crate::aws::http::tests::Counting;
    use crate::aws::pool::Within as _;

    /// STS, while it answers.
    #[derive(Debug, Clone, Default)]
    struct Sts {
        asked: Arc<Mutex<Vec<String>>>,
        is_away: Arc<AtomicBool>,
    }

    const ANSWER: &str = "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult><Credentials>\
        <AccessKeyId>key</AccessKeyId><SecretAccessKey>secret</SecretAccessKey><SessionToken>token</SessionToken>\
        <Expiration>2000-01-01T00:00:00Z</Expiration></Credentials><AssumedRoleUser>\
        <Arn>arn:aws:sts::222222222222:assumed-role/access/x</Arn><AssumedRoleId>AROA:x</AssumedRoleId></AssumedRoleUser>\
        </AssumeRoleResult></AssumeRoleResponse>";

    impl HttpConnector for Sts {
        fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
            let body = String::from_utf8_lossy(request.body().bytes().unwrap_or_default()).into_owned();
            self.asked.lock().unwrap().push(body);
            let (status, body) = if self.is_away.load(Ordering::Relaxed) { (503, "") } else { (200, ANSWER) };
            HttpConnectorFuture::ready(Ok(HttpResponse::new(status.try_into().unwrap(), SdkBody::from(body))))
        }
    }

    const ROLE: &str = "arn:aws:iam::222222222222:role/access";

    fn identity() -> SessionIdentity {
        let visit = Visit { session_name: "tenantry-test".into(), ..Visit::default() };
        SessionIdentity { tenant: None, external_id: None, visit: Arc::new(visit) }
    }

    impl Sts {
        fn credentials(&self) -> TenantCredentials {
            let connector = SharedHttpConnector::new(self.clone());
            let config = aws_sdk_sts::Config::builder()
                .behavior_version(BehaviorVersion::latest())
                .region(SdkRegion::new("eu-west-1"))
                .credentials_provider(Credentials::new("key", "secret", None, None, "test"))
                .retry_config(RetryConfig::disabled())
                .http_client(http_client_fn(move |_, _| connector.clone()));
            TenantCredentials {
                sts: aws_sdk_sts::Client::from_conf(config.build()),
                role_arn: ROLE.into(),
                identity: identity(),
                current: AsyncMutex::default(),
                spoilt: AtomicBool::default(),
            }
        }

        fn asked(&self) -> usize {
            self.asked.lock().unwrap().len()
        }
    }

    /// STS, and nobody else.
    #[derive(Debug, Clone, Default)]
    struct Lonely {
        sts: Sts,
        others: Counting,
    }

    impl HttpConnector for Lonely {
        fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
            if request.uri().contains("sts") { self.sts.call(request) } else { self.others.call(request) }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn requests_in_flight_are_bounded_in_each_account() {
        let lonely = Lonely::default();
        let connector = SharedHttpConnector::new(lonely.clone());
        let http = http_client_fn(move |_, _| connector.clone());
        let config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(SdkRegion::new("eu-west-1"))
            .credentials_provider(SharedCredentialsProvider::new(Credentials::new("key", "secret", None, None, "test")))
            .retry_config(RetryConfig::disabled())
            .sleep_impl(aws_smithy_async::rt::sleep::SharedAsyncSleep::new(
                aws_smithy_async::rt::sleep::TokioSleep::new(),
            ))
            .http_client(http.clone())
            .build();
        let tooling =
            Tooling { config, bounded: http::bounded(http.clone(), http::IN_FLIGHT), http, clients: Arc::default() };
        let session = |tenant: &str| Arc::new(Session::new(&tooling, tenant, sts(&tooling), ROLE, identity()));
        let calls = |session: Arc<Session>| {
            let client = session.cloudformation("eu-west-1");
            (0..20).map(move |_| {
                let (client, session) = (client.clone(), session.clone());
                tokio::spawn(async move { client.describe_stacks().send().within(&session).await.is_err() })
            })
        };
        for (accounts, most) in [(1, PER_ACCOUNT), (3, 3 * PER_ACCOUNT)] {
            let begun: Vec<_> = (0..accounts).map(|number| session(&number.to_string())).flat_map(calls).collect();
            for call in begun {
                assert!(call.await.unwrap());
            }
            assert_eq!(lonely.others.most.swap(0, Ordering::SeqCst), most);
        }
    }

    /// For days, and whatever this machine's clock says: the answer's own end is long ago.
    #[tokio::test(start_paused = true)]
    async fn a_session_is_renewed_before_its_hour_is_over() {
        let sts = Sts::default();
        let credentials = sts.credentials();
        credentials.enter().await.unwrap();
        for hour in 1..48 {
            assert_eq!(sts.asked(), hour);
            advance(Duration::from_mins(54)).await;
            credentials.current().await.unwrap();
            assert_eq!(sts.asked(), hour, "it is good for six minutes more");
            advance(Duration::from_mins(2)).await;
            credentials.current().await.unwrap();
        }
        let asked = sts.asked.lock().unwrap();
        assert!(asked.iter().all(|body| body.contains("DurationSeconds=3600")), "what role chaining allows: {asked:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_renewed_is_good_until_its_end() {
        let sts = Sts::default();
        let credentials = sts.credentials();
        credentials.enter().await.unwrap();
        sts.is_away.store(true, Ordering::Relaxed);
        advance(Duration::from_mins(56)).await;
        credentials.current().await.unwrap();
        advance(Duration::from_mins(5)).await;
        assert_eq!(
            credentials.current().await.unwrap_err().kind,
            FaultKind::Credentials,
            "which pauses, and decides nothing"
        );
        sts.is_away.store(false, Ordering::Relaxed);
        credentials.current().await.unwrap();
        assert_eq!(sts.asked(), 4);
    }
}
