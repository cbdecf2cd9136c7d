//! One connection pool for all tenants. A client without it would open a pool for itself, and a thousand tenants
//! a thousand pools.

use std::sync::Arc;
use std::time::Duration;

use aws_smithy_http_client::pool::{Client, ConnectionPool};
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{self, TlsContext, TrustStore};
use aws_smithy_runtime::client::orchestrator::operation::Operation;
use aws_smithy_runtime_api::client::http::{
    HttpClient as _, HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, OrchestratorError};
use aws_smithy_runtime_api::client::result::{ConnectorError, SdkError};
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::timeout::TimeoutConfig;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::sync::Semaphore;

use crate::domain::{Fault, FaultKind};

/// Certificates that are trusted beside the system's.
#[derive(Debug)]
pub struct CaBundle(Vec<u8>);

impl CaBundle {
    /// Takes what a file in PEM form holds, which has to be certificates: the client would panic on anything else.
    ///
    /// # Errors
    ///
    /// Says which certificate is none.
    pub fn read(pem: Vec<u8>) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        for (number, certificate) in (1..).zip(CertificateDer::pem_slice_iter(&pem)) {
            let added = certificate.map_err(|error| error.to_string());
            let added = added.and_then(|certificate| roots.add(certificate).map_err(|error| error.to_string()));
            added.map_err(|error| format!("certificate {number}: {error}"))?;
        }
        if roots.is_empty() {
            return Err("no certificate in PEM form".to_owned());
        }
        Ok(Self(pem))
    }
}

/// Builds the pool: system certificates and those of `ca_bundle`, and the proxy that the environment names.
pub fn shared_client(
    ca_bundle: Option<CaBundle>,
) -> Result<SharedHttpClient, Box<dyn std::error::Error + Send + Sync>> {
    let mut trust = TrustStore::default();
    if let Some(CaBundle(pem)) = ca_bundle {
        trust.add_pem_certificate(pem);
    }
    let pool = ConnectionPool::builder()
        .proxy_config(ProxyConfig::from_env())
        .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::AwsLc))
        .tls_context(TlsContext::builder().with_trust_store(trust).build()?)
        .build_https()?;
    Ok(SharedHttpClient::new(Client::new(&pool)?))
}

/// Requests in flight at a time, over all tenants. More take longer each and none of them sooner: the CPU decides.
pub const IN_FLIGHT: usize = 256;

/// Returns the same client with a bound on the requests in flight. What may take minutes by nature, as the invocation
/// of a function, must not go through it.
pub fn bounded(http: SharedHttpClient, most: usize) -> SharedHttpClient {
    let permits = Arc::new(Semaphore::new(most));
    bounded_by(http, move || Some(permits.clone()))
}

/// Returns the same client with the bound that holds for whoever makes a call, if there is one.
pub fn bounded_by(
    http: SharedHttpClient,
    permits: impl Fn() -> Option<Arc<Semaphore>> + Clone + Send + Sync + 'static,
) -> SharedHttpClient {
    http_client_fn(move |settings, components| {
        let inner = http.http_connector(settings, components);
        SharedHttpConnector::new(Bounded { inner, permits: permits.clone() })
    })
}

struct Bounded<P> {
    inner: SharedHttpConnector,
    permits: P,
}

impl<P> std::fmt::Debug for Bounded<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bounded").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl<P: Fn() -> Option<Arc<Semaphore>> + Send + Sync> HttpConnector for Bounded<P> {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (inner, permits) = (self.inner.clone(), (self.permits)());
        HttpConnectorFuture::new(async move {
            let _permit = match permits {
                Some(permits) => {
                    Some(permits.acquire_owned().await.map_err(|closed| ConnectorError::other(closed.into(), None))?)
                }
                None => None,
            };
            inner.call(request).await
        })
    }
}

/// Returns the status with which a URL answers, by the same client as all other calls. Redirects are not followed.
pub async fn status(http: &SharedHttpClient, url: &str, timeout: Duration) -> Result<u16, Fault> {
    get(http, url, None, timeout).await.map(|(status, _)| status)
}

/// Returns status and body with which a URL answers, to a caller with a token if there is one.
pub async fn get(
    http: &SharedHttpClient,
    url: &str,
    token: Option<&str>,
    timeout: Duration,
) -> Result<(u16, Vec<u8>), Fault> {
    ask(http, url, token, timeout).await.map(|(status, body, _)| (status, body))
}

/// Returns what a server says the time is, as it writes it.
pub async fn date(http: &SharedHttpClient, url: &str) -> Result<Option<String>, Fault> {
    ask(http, url, None, Duration::from_secs(10)).await.map(|(_, _, date)| date)
}

/// Sends a JSON document to a URL, and returns the status of the answer. The URL may be a secret, and is in no fault.
pub async fn post(
    http: &SharedHttpClient,
    url: &str,
    json: String,
    headers: &[(String, String)],
    timeout: Duration,
) -> Result<u16, Fault> {
    let sent = send(http, "POST", url, headers, Some(json), timeout).await;
    let (status, ..) = sent.map_err(|fault| Fault { message: fault.message.replace(url, "the URL"), ..fault })?;
    Ok(status)
}

async fn ask(
    http: &SharedHttpClient,
    url: &str,
    token: Option<&str>,
    timeout: Duration,
) -> Result<(u16, Vec<u8>, Option<String>), Fault> {
    let headers: Vec<(String, String)> =
        token.map(|token| ("authorization".to_owned(), format!("Bearer {token}"))).into_iter().collect();
    send(http, "GET", url, &headers, None, timeout).await
}

async fn send(
    http: &SharedHttpClient,
    method: &'static str,
    url: &str,
    headers: &[(String, String)],
    json: Option<String>,
    timeout: Duration,
) -> Result<(u16, Vec<u8>, Option<String>), Fault> {
    let wrong = |why: String| Fault::new(FaultKind::Invalid, method, format!("{url}: {why}"));
    if !url.starts_with("https://") && !is_loopback(url) {
        return Err(wrong("only https:// is fetched".to_owned()));
    }
    let (origin, path) = split(url);
    let path = path.to_owned();
    let headers = headers.to_vec();
    let operation = Operation::builder()
        .service_name("web")
        .operation_name(method)
        .http_client(http.clone())
        .endpoint_url(origin)
        .no_auth()
        .no_retry()
        .timeout_config(TimeoutConfig::builder().operation_timeout(timeout).build())
        .sleep_impl(aws_smithy_async::rt::sleep::TokioSleep::new())
        .time_source(aws_smithy_async::time::SystemTimeSource::new())
        .serializer(move |(): ()| {
            let body = json.clone().map_or_else(SdkBody::empty, SdkBody::from);
            let mut request = HttpRequest::new(body);
            request.set_method(method).map_err(OrchestratorError::<std::convert::Infallible>::other)?;
            if let Some(json) = &json {
                request.headers_mut().insert("content-type", "application/json");
                request.headers_mut().insert("content-length", json.len().to_string());
            }
            request.set_uri(path.as_str()).map_err(OrchestratorError::<std::convert::Infallible>::other)?;
            request.headers_mut().insert("user-agent", "tenantry");
            for (name, value) in &headers {
                let added = request.headers_mut().try_insert(name.clone(), value.clone());
                added.map_err(OrchestratorError::<std::convert::Infallible>::other)?;
            }
            Ok(request)
        })
        .deserializer::<_, std::convert::Infallible>(|response| {
            let body = response.body().bytes().unwrap_or_default().to_vec();
            Ok((response.status().as_u16(), body, response.headers().get("date").map(str::to_owned)))
        })
        .build();
    operation.invoke(()).await.map_err(|error| {
        if let SdkError::ConstructionFailure(_) = &error {
            wrong("not a URL".to_owned())
        } else {
            let why = aws_smithy_types::error::display::DisplayErrorContext(&error).to_string();
            Fault::new(FaultKind::Unreachable, method, format!("{url}: {}", why.split(" (").next().unwrap_or_default()))
        }
    })
}

/// Splits a URL into its origin, and path and query.
fn split(url: &str) -> (&str, &str) {
    match url.match_indices('/').nth(2) {
        Some((at, _)) => url.split_at(at),
        None => (url, "/"),
    }
}

/// A server on this machine is reached without TLS, which is what emulators offer.
fn is_loopback(url: &str) -> bool {
    ["http://127.0.0.1:", "http://localhost:", "http://[::1]:"].iter().any(|prefix| url.starts_with(prefix))
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn a_url_without_a_path_means_the_root() {
        assert_eq!(split("https://example.com"), ("https://example.com", "/"));
        assert_eq!(split("https://example.com/"), ("https://example.com", "/"));
        assert_eq!(split("https://example.com/a/b?c=/d"), ("https://example.com", "/a/b?c=/d"));
    }

    /// Fails after a second, and counts how many requests there are at a time.
    #[derive(Debug, Clone, Default)]
    pub(in crate::aws) struct Counting {
        now: Arc<AtomicUsize>,
        pub(in crate::aws) most: Arc<AtomicUsize>,
    }

    impl HttpConnector for Counting {
        fn call(&self, _: HttpRequest) -> HttpConnectorFuture {
            let (now, most) = (self.now.clone(), self.most.clone());
            HttpConnectorFuture::new(async move {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_secs(1)).await;
                now.fetch_sub(1, Ordering::SeqCst);
                Err(ConnectorError::user("nobody is there".into()))
            })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn requests_in_flight_are_bounded_over_all_tenants() {
        let counting = Counting::default();
        let most = counting.most.clone();
        let permits = Arc::new(Semaphore::new(IN_FLIGHT));
        let inner = SharedHttpConnector::new(counting);
        let bounded = Arc::new(Bounded { inner, permits: move || Some(permits.clone()) });
        let begun = tokio::time::Instant::now();
        let calls: Vec<_> = (0..1000)
            .map(|_| {
                let bounded = bounded.clone();
                tokio::spawn(async move { bounded.call(HttpRequest::new(SdkBody::empty())).await.is_err() })
            })
            .collect();
        for call in calls {
            assert!(call.await.unwrap());
        }
        assert_eq!(most.load(Ordering::SeqCst), IN_FLIGHT);
        assert_eq!(begun.elapsed().as_secs(), 4);
    }

    #[test]
    fn a_bundle_holds_certificates_and_nothing_broken() {
        let pem = |text: &str| format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n").into_bytes();
        let why = |bytes: Vec<u8>| CaBundle::read(bytes).unwrap_err();
        assert_eq!(why(b"a text\n".to_vec()), "no certificate in PEM form");
        assert!(why(pem("AAAA")).starts_with("certificate 1: "), "{}", why(pem("AAAA")));
        assert!(why(pem("!!!")).starts_with("certificate 1: "), "{}", why(pem("!!!")));
        shared_client(Some(CaBundle::read(pem(SELF_SIGNED)).unwrap())).unwrap();
    }

    /// By `openssl req -x509 -newkey ed25519`, its key thrown away.
    const SELF_SIGNED: &str = "MIIBNDCB56ADAgECAhR+SJAQD2i6eytL0PMgVv5C9QutdzAFBgMrZXAwDzENMAsG\
        A1UEAwwEdGVzdDAgFw0yNjExMjcxMjQ3NDJaGA8yMTI2MTEwMzEyNDc0MlowDzEN\
        MAsGA1UEAwwEdGVzdDAqMAUGAytlcAMhAAzqxxV3l2BtOU0yNdX3QX7QrtwqqYWk\
        Qa1AenYWkCs6o1MwUTAdBgNVHQ4EFgQUIJDfV5dcMWyX/YCLYp4tiAzTrqswHwYD\
        VR0jBBgwFoAUIJDfV5dcMWyX/YCLYp4tiAzTrqswDwYDVR0TAQH/BAUwAwEB/zAF\
        BgMrZXADQQC3lniLayMyDbClHJxjN9+dflOcIRBbbSrgoW8P7NMlvJCNC3jUhMfA\
        MF8kdbP76yoZjF2CH86OVaG2S7ZMxckF";

    #[tokio::test]
    async fn only_https_is_fetched() {
        let http = shared_client(None).unwrap();
        let fault = status(&http, "http://example.com/", Duration::from_secs(1)).await.unwrap_err();
        assert_eq!(fault.kind, FaultKind::Invalid);
    }
}
