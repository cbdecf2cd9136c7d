//! One bucket: conditional writes, encryption and checksums as they were asked for.

use std::fmt::Write as _;

use http_body_util::Full;
use hyper::Response;
use hyper::body::Bytes;
use hyper::http::request::Parts;

use super::{KMS_KEY, World};

/// An object.
#[derive(Debug, Clone)]
pub struct Object {
    bytes: Bytes,
    checksum: String,
    version: u64,
}

impl Object {
    /// Returns how many bytes it has.
    #[allow(dead_code, reason = "for the benchmark of packaging")]
    pub fn size(&self) -> usize {
        self.bytes.len()
    }
}

/// Answers a request for the bucket.
pub fn answer(world: &World, head: &Parts, body: Bytes) -> Response<Full<Bytes>> {
    let path = head.uri.path();
    let key = path.splitn(3, '/').nth(2).unwrap_or_default().to_owned();
    let query: std::collections::HashMap<String, String> =
        form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
    let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let mut objects = world.objects.lock().unwrap();
    if key.is_empty() && query.contains_key("list-type") {
        let prefix = query.get("prefix").cloned().unwrap_or_default();
        let mut list = String::new();
        for found in objects.range(prefix.clone()..).map(|(key, _)| key).take_while(|key| key.starts_with(&prefix)) {
            let _ = write!(list, "<Contents><Key>{found}</Key><Size>1</Size></Contents>");
        }
        let body = format!(
            "<ListBucketResult><Name>bucket</Name><Prefix>{prefix}</Prefix><IsTruncated>false</IsTruncated>{list}\
             </ListBucketResult>"
        );
        return Response::new(Full::new(Bytes::from(body)));
    }
    if key.is_empty() {
        return Response::new(Full::default());
    }
    // Large objects come in parts, which wait below their own keys. An upload's checksum is not looked at.
    let part = |upload: &str, number: &str| format!("\0{upload}/{number:0>5}");
    match (head.method.as_str(), query.get("uploadId")) {
        ("POST", None) => {
            let id = world.count("versions");
            let body =
                format!("<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>");
            return Response::new(Full::new(Bytes::from(body)));
        }
        ("PUT", Some(upload)) => {
            let (key, version) = (part(upload, &query["partNumber"]), world.count("versions"));
            objects.insert(key, Object { bytes: body, checksum: String::new(), version });
            return described(200, "", version, Bytes::new());
        }
        ("POST", Some(upload)) => {
            let first = part(upload, "");
            let parts: Vec<String> = objects
                .range(first.clone()..)
                .map(|(key, _)| key.clone())
                .take_while(|key| key.starts_with(&first[..first.len() - 5]))
                .collect();
            let bytes: Vec<u8> =
                parts.iter().filter_map(|key| objects.remove(key)).flat_map(|part| part.bytes).collect();
            let version = world.count("versions");
            objects.insert(key, Object { bytes: bytes.into(), checksum: String::new(), version });
            let body = "<CompleteMultipartUploadResult><ETag>\"1\"</ETag></CompleteMultipartUploadResult>";
            return described(200, "", version, Bytes::from(body));
        }
        _ => {}
    }
    match head.method.as_str() {
        "PUT" => {
            let known = objects.get(&key).map(|object| format!("\"{}\"", object.version));
            let is_free = header("if-none-match").is_none() || known.is_none();
            let is_current = header("if-match").is_none_or(|wanted| Some(wanted) == known);
            if !is_free || !is_current {
                return failure(412, "PreconditionFailed");
            }
            let version = world.count("versions");
            let checksum = header("x-amz-checksum-sha256").unwrap_or_default();
            objects.insert(key, Object { bytes: body, checksum: checksum.clone(), version });
            described(200, &checksum, version, Bytes::new())
        }
        "GET" | "HEAD" => match objects.get(&key) {
            None => failure(404, "NoSuchKey"),
            Some(object) => {
                let bytes = if head.method == "HEAD" { Bytes::new() } else { object.bytes.clone() };
                described(200, &object.checksum, object.version, bytes)
            }
        },
        _ => failure(405, "MethodNotAllowed"),
    }
}

fn described(status: u16, checksum: &str, version: u64, bytes: Bytes) -> Response<Full<Bytes>> {
    Response::builder()
        .status(status)
        .header("etag", format!("\"{version}\""))
        .header("x-amz-server-side-encryption", "aws:kms")
        .header("x-amz-server-side-encryption-aws-kms-key-id", KMS_KEY)
        .header("x-amz-checksum-sha256", checksum)
        .body(Full::new(bytes))
        .unwrap()
}

fn failure(status: u16, code: &str) -> Response<Full<Bytes>> {
    let body = format!("<Error><Code>{code}</Code><Message>{code}</Message></Error>");
    Response::builder().status(status).body(Full::new(Bytes::from(body))).unwrap()
}
