//! HTTP: reading requests, and what goes wrong before one reaches a service.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use super::{TOOLING, World, cloudformation, s3};

/// An answer; none closes the connection.
pub type Answer = Option<Response<Full<Bytes>>>;

/// Answers for ever.
pub async fn serve(listener: TcpListener, world: Arc<World>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let _ = stream.set_nodelay(true);
        let world = world.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let world = world.clone();
                async move { answer(&world, request).await.map(|answer| dated(&world, answer)).ok_or(Closed) }
            });
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// The connection is closed without an answer.
#[derive(Debug)]
struct Closed;

impl std::fmt::Display for Closed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("closed")
    }
}

impl std::error::Error for Closed {}

async fn answer(world: &World, request: Request<Incoming>) -> Answer {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else { return None };
    let body = body.to_bytes();
    let weather = world.weather();
    if weather.dark {
        return None;
    }
    if !weather.latency.is_zero() {
        tokio::time::sleep(weather.latency).await;
    }
    let key = access_key(&head);
    if head.uri.path() == "/credentials" {
        return Some(container(world, &head));
    }
    if head.uri.path().starts_with("/2015-03-31/functions/") {
        return Some(function(world, &head));
    }
    if head.uri.path() != "/" {
        world.count("s3");
        return Some(s3::answer(world, &head, body));
    }
    let parameters: HashMap<String, String> = form_urlencoded::parse(&body).into_owned().collect();
    let action = parameters.get("Action").cloned().unwrap_or_default();
    let number = world.count(&action);
    // Faults come in an order that is the same in each run, and spread over all calls.
    let dice = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
    if weather.ahead.unsigned_abs() > 300 && is_skewed(world, &head) {
        return Some(error(403, "RequestTimeTooSkewed", "the difference between the clocks is too large"));
    }
    // Whose credentials these are is asked once, before anything could be lost.
    let is_fair = action == "GetCallerIdentity";
    if !is_fair && dice % 100 < weather.throttled {
        return Some(error(400, "Throttling", "Rate exceeded"));
    }
    let is_reset = !is_fair && dice / 100 % 100 < weather.reset;
    if is_reset && (dice / 10_000).is_multiple_of(2) {
        return None;
    }
    let answer = match sts(world, &action, &parameters, &key) {
        Ok(account) if world.is_too_fast(&account, weather.rate) => error(400, "Throttling", "Rate exceeded"),
        Ok(account) => cloudformation::answer(world, &weather, &account, &action, &parameters),
        Err(answer) => answer,
    };
    (!is_reset).then_some(answer)
}

/// What a container's agent answers whoever has its token.
/// Source: <https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html>
fn container(world: &World, head: &hyper::http::request::Parts) -> Response<Full<Bytes>> {
    if head.headers.get("authorization").is_none_or(|token| token != "token of the container") {
        return respond(401, String::new());
    }
    let end = in_an_hour(world);
    let body = format!(
        r#"{{"AccessKeyId": "{TOOLING}", "SecretAccessKey": "secret", "Token": "token", "Expiration": "{end}"}}"#
    );
    respond(200, body)
}

/// What Lambda answers whoever invokes a function: of each it says that all is well.
/// Source: <https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html>
fn function(world: &World, head: &hyper::http::request::Parts) -> Response<Full<Bytes>> {
    world.count("Invoke");
    if world.weather().ahead.unsigned_abs() > 300 && is_skewed(world, head) {
        let mut refused = respond(403, r#"{"message": "Signature not yet current"}"#.to_owned());
        refused.headers_mut().insert("x-amzn-errortype", "InvalidSignatureException".parse().unwrap());
        return refused;
    }
    respond(200, r#"{"statusCode": 200}"#.to_owned())
}

fn access_key(head: &hyper::http::request::Parts) -> String {
    let header = head.headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let credential = header.split("Credential=").nth(1).unwrap_or_default();
    credential.split('/').next().unwrap_or_default().to_owned()
}

/// Compares the signature's time with the server's.
fn is_skewed(world: &World, head: &hyper::http::request::Parts) -> bool {
    let date = head.headers.get("x-amz-date").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let Ok(date) = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", date) else { return true };
    let Ok(date) = date.to_zoned(jiff::tz::TimeZone::UTC) else { return true };
    let now = jiff::Timestamp::try_from(world.now()).unwrap();
    now.duration_since(date.timestamp()).as_secs().abs() > 300
}

/// Answers for STS, or returns the account that the caller is in.
fn sts(
    world: &World,
    action: &str,
    parameters: &HashMap<String, String>,
    key: &str,
) -> Result<String, Response<Full<Bytes>>> {
    let account = key.strip_prefix("ASIA").map_or(TOOLING, |rest| &rest[..12]).to_owned();
    if key.starts_with("ASIA") {
        let begun = world.sessions.lock().unwrap().get(key).copied();
        if begun.is_none_or(|begun| begun.elapsed() > world.weather().session) {
            return Err(error(403, "ExpiredToken", "The security token included in the request is expired"));
        }
    }
    match action {
        "AssumeRole" if world.weather().locked => Err(error(500, "InternalFailure", "not now")),
        "AssumeRole" => {
            let role = &parameters["RoleArn"];
            let of = role.split(':').nth(4).unwrap_or_default();
            let number = world.count("sessions");
            let key = format!("ASIA{of}{number:08}");
            world.sessions.lock().unwrap().insert(key.clone(), Instant::now());
            let user = format!(
                "<AssumedRoleUser><Arn>arn:aws:sts::{of}:assumed-role/access/x</Arn>\
                 <AssumedRoleId>AROA:x</AssumedRoleId></AssumedRoleUser>"
            );
            Err(xml(action, &(credentials(world, &key) + &user)))
        }
        "AssumeRoleWithWebIdentity" if parameters["WebIdentityToken"] == "token of the identity" => {
            Err(xml(action, &credentials(world, TOOLING)))
        }
        "GetCallerIdentity" => Err(xml(
            action,
            &format!("<Arn>arn:aws:iam::{account}:user/builder</Arn><UserId>x</UserId><Account>{account}</Account>"),
        )),
        _ => Ok(account),
    }
}

fn credentials(world: &World, key: &str) -> String {
    let end = in_an_hour(world);
    format!(
        "<Credentials><AccessKeyId>{key}</AccessKeyId><SecretAccessKey>secret</SecretAccessKey>\
         <SessionToken>token</SessionToken><Expiration>{end}</Expiration></Credentials>"
    )
}

fn in_an_hour(world: &World) -> String {
    format!("{:.0}", jiff::Timestamp::try_from(world.now()).unwrap() + std::time::Duration::from_hours(1))
}

/// An answer of a query service.
pub fn xml(action: &str, result: &str) -> Response<Full<Bytes>> {
    let body = format!(
        "<{action}Response xmlns=\"http://x\"><{action}Result>{result}</{action}Result><ResponseMetadata>\
         <RequestId>r</RequestId></ResponseMetadata></{action}Response>"
    );
    respond(200, body)
}

/// An error of a query service.
pub fn error(status: u16, code: &str, message: &str) -> Response<Full<Bytes>> {
    let body = format!(
        "<ErrorResponse xmlns=\"http://x\"><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message>\
         </Error><RequestId>r</RequestId></ErrorResponse>"
    );
    respond(status, body)
}

fn respond(status: u16, body: String) -> Response<Full<Bytes>> {
    let answer = Response::builder().status(status).header("content-type", "text/xml");
    answer.body(Full::new(Bytes::from(body))).unwrap()
}

/// Adds the server's own time to an answer: SDKs correct their clocks by it.
fn dated(world: &World, mut answer: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
    let now = jiff::Timestamp::try_from(world.now()).unwrap();
    let date = now.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    answer.headers_mut().insert("date", date.parse().unwrap());
    answer
}
