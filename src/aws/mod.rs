//! The only place that knows AWS's SDK. Everything that leaves it is a value of `domain`.

mod account;
mod admin;
mod agent;
mod alarms;
mod data;
mod directory;
mod executions;
mod fault;
mod http;
mod multipart;
mod notify;
mod pipeline;
mod pool;
mod retained;
mod session;
mod store;

use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::{BehaviorVersion, Region as SdkRegion, SdkConfig};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;

pub use admin::Administrators;
pub use directory::Member;
pub use executions::Execution;
pub use http::CaBundle;
pub use session::{Sessions, Visit};
pub use store::{ArtifactStore, StoreSettings};

use std::sync::Arc;
use std::time::Duration;

use self::session::{Session, SessionIdentity};
use jiff::{SignedDuration, Timestamp};

use crate::domain::{AccountId, Fault, FaultKind, Region};

/// The tooling account, as the credentials around this process reach it.
#[derive(Clone)]
pub struct Tooling {
    config: SdkConfig,
    /// What tenants' requests go through: bounded over all of them.
    bounded: SharedHttpClient,
    /// Without that bound: what keeps a lock must not queue behind a thousand tenants.
    http: SharedHttpClient,
    /// Clients of the accounts that are in work.
    clients: Arc<pool::Clients>,
}

/// The SDK waits a second before its first retry; throttling of one tenant is over sooner.
const FIRST_BACKOFF: Duration = Duration::from_millis(400);

/// Who calls, as STS says.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The account of the credentials.
    pub account: AccountId,
    /// The ARN of the user or session.
    pub arn: String,
}

impl Tooling {
    /// Finds the credentials as every AWS tool does: environment, profile, web identity, container, instance.
    /// `ca_bundle` holds what to trust beside the system's certificates, since the SDK ignores AWS_CA_BUNDLE.
    ///
    /// # Errors
    ///
    /// Fails where no HTTPS client can be made, for example with a proxy setting that cannot be read.
    pub async fn connect(region: &Region, ca_bundle: Option<CaBundle>) -> Result<Self, Fault> {
        let http = http::shared_client(ca_bundle).map_err(|error| {
            Fault::new(FaultKind::Invalid, "connect", format!("no HTTPS client can be made: {error}"))
        })?;
        let config = aws_config::defaults(BehaviorVersion::latest())
            .region(SdkRegion::new(region.to_string()))
            .http_client(http.clone())
            .retry_config(RetryConfig::standard().with_max_attempts(6).with_initial_backoff(FIRST_BACKOFF))
            .timeout_config(timeouts())
            .framework_metadata(agent::tool())
            .load()
            .await;
        let bounded = http::bounded(http.clone(), http::IN_FLIGHT);
        Ok(Self { config, bounded, http, clients: Arc::default() })
    }

    /// Fetches a document over HTTPS with a bearer token, for services that are none of AWS's.
    ///
    /// # Errors
    ///
    /// Fails where there is no answer, or one with a status other than 200.
    pub async fn fetch(&self, url: &str, token: &str) -> Result<Vec<u8>, Fault> {
        let (status, body) = http::get(&self.http, url, Some(token), Duration::from_secs(30)).await?;
        match status {
            200 => Ok(body),
            401 | 403 => Err(Fault::new(FaultKind::Denied, "GET", format!("{url} answers with status {status}"))),
            _ => Err(Fault::new(FaultKind::Invalid, "GET", format!("{url} answers with status {status}"))),
        }
    }

    /// Returns how far this machine's clock is ahead of AWS's; none where no answer tells a time. AWS refuses what is signed
    /// more than five minutes off; the SDK corrects that, other tools do not.
    /// Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/create-signed-request.html>
    ///
    /// # Errors
    ///
    /// Fails where there is no answer.
    pub async fn clock_ahead(&self, region: &Region, endpoint: Option<&str>) -> Result<Option<SignedDuration>, Fault> {
        let own = format!("https://sts.{region}.{}/", region.dns_suffix());
        let date = http::date(&self.http, endpoint.unwrap_or(&own)).await?;
        let theirs = date.and_then(|date| jiff::fmt::rfc2822::parse(&date).ok());
        Ok(theirs.map(|theirs| Timestamp::now().duration_since(theirs.timestamp())))
    }

    /// Returns the same with a role of the account in place of the credentials around this process.
    ///
    /// # Errors
    ///
    /// Fails where the role cannot be assumed, or leads elsewhere.
    pub async fn assuming(
        &self,
        role: &str,
        account: &AccountId,
        region: &Region,
        visit: Visit,
    ) -> Result<Self, Fault> {
        let identity = SessionIdentity { tenant: None, external_id: None, visit: Arc::new(visit) };
        let session = Session::new(self, "tool", session::sts(self), role, identity);
        session.enter(role, account).await?;
        Ok(Self { config: session.config(region.as_str()), ..self.clone() })
    }

    /// Asks STS who calls.
    pub async fn caller(&self) -> Result<Caller, Fault> {
        caller(&aws_sdk_sts::Client::new(&self.config)).await
    }
}

async fn caller(sts: &aws_sdk_sts::Client) -> Result<Caller, Fault> {
    const OPERATION: &str = "GetCallerIdentity";
    let answer = sts.get_caller_identity().send().await.map_err(|error| fault::read(OPERATION, &error))?;
    let account = AccountId::new(answer.account().unwrap_or_default())
        .map_err(|error| Fault::new(FaultKind::Mismatch, OPERATION, error.to_string()))?;
    Ok(Caller { account, arn: answer.arn().unwrap_or_default().to_owned() })
}

/// Requests of some kilobytes are sent at once, and have [`timeouts`]: nobody has to watch how fast each of them is sent.
fn small_requests() -> StalledStreamProtectionConfig {
    StalledStreamProtectionConfig::enabled().upload_enabled(false).build()
}

/// The SDK has no limit on the time of a call; without one, a lost answer holds a target for ever.
fn timeouts() -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(5))
        .read_timeout(Duration::from_mins(1))
        .operation_timeout(Duration::from_mins(10))
        .build()
}
