//! The artifact bucket: SSE-KMS under one key, SHA-256 checksums, and conditional writes only.

use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumMode, ServerSideEncryption};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::agent::UserAgent;
use super::multipart::composite_checksum;
use super::{Tooling, fault};
use crate::domain::{AccountId, Digest, Fault, FaultKind, Region};
use crate::ports::Store;

/// Where artifacts and records are kept.
#[derive(Debug, Clone)]
pub struct StoreSettings {
    /// The bucket's name.
    pub bucket: String,
    /// The account that must own it.
    pub owner: AccountId,
    /// ARN of the key that everything is encrypted under.
    pub kms_key: String,
    /// The bucket's region.
    pub region: Region,
    /// Another endpoint than AWS's own, as emulators and VPC endpoints have.
    pub endpoint: Option<String>,
    /// Objects of so many bytes and more are sent in parts.
    pub multipart_from: usize,
    /// Size of a part. S3 wants at least 5 MiB for all but the last, and takes 10,000 of them.
    pub part: usize,
}

impl StoreSettings {
    /// Tells whether the endpoint is none of AWS's: buckets have no names of their own there, and CloudFormation,
    /// which is emulated too, reads templates from it. A VPC endpoint is AWS's, and is for this process alone.
    fn is_emulated(&self) -> bool {
        self.endpoint.as_ref().is_some_and(|endpoint| !endpoint.contains(".amazonaws.com"))
    }

    /// Returns the URL under which CloudFormation reads an object: of the virtual-hosted form, which policies on
    /// `cloudformation:TemplateUrl` can match.
    fn url(&self, key: &str) -> String {
        let Self { bucket, region, endpoint, .. } = self;
        match endpoint {
            Some(endpoint) if self.is_emulated() => format!("{}/{bucket}/{key}", endpoint.trim_end_matches('/')),
            _ => format!("https://{bucket}.s3.{region}.{}/{key}", region.dns_suffix()),
        }
    }
}

/// How often an upload is tried, where others write at the same moment.
const ATTEMPTS: u32 = 3;

/// Repeats a write that others may be doing at the same moment, until there is an answer; none means to look again.
async fn settle<T, F>(write: impl Fn() -> F) -> Result<Option<T>, Fault>
where
    F: Future<Output = Result<Option<T>, Fault>>,
{
    for _ in 1..ATTEMPTS {
        match write().await {
            Ok(None) => {}
            Err(fault) if fault.passes() => {}
            other => return other,
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    write().await
}

/// Returns a checksum as S3 writes it.
pub(super) fn checksum(sha256: Digest) -> String {
    BASE64.encode(sha256.as_bytes())
}

/// Compares the checksum that S3 has computed of what arrived, where it tells one, with that of what was sent.
pub(super) fn check_arrival(operation: &str, key: &str, given: Option<&str>, sent: &str) -> Result<(), Fault> {
    match given {
        Some(given) if given != sent => {
            let message = format!("{key} arrived with sha256 {given}, {sent} was sent");
            Err(Fault::new(FaultKind::Mismatch, operation, message))
        }
        _ => Ok(()),
    }
}

/// The artifact bucket.
pub struct ArtifactStore {
    pub(super) s3: Client,
    pub(super) settings: StoreSettings,
}

impl ArtifactStore {
    /// Prepares the client. Nothing is called yet.
    pub fn new(tooling: &Tooling, settings: StoreSettings) -> Self {
        let config = aws_sdk_s3::config::Builder::from(&tooling.config)
            .region(aws_sdk_s3::config::Region::new(settings.region.to_string()))
            .interceptor(UserAgent::new(&tooling.config))
            .force_path_style(settings.is_emulated());
        let config = match &settings.endpoint {
            Some(endpoint) => config.endpoint_url(endpoint),
            None => config,
        };
        Self { s3: Client::from_conf(config.build()), settings }
    }

    /// Compares what S3 says about an object's encryption with what was asked for.
    pub(super) fn check_encryption(
        &self,
        operation: &str,
        key: &str,
        algorithm: Option<&ServerSideEncryption>,
        kms_key: Option<&str>,
    ) -> Result<(), Fault> {
        let algorithm = algorithm.map_or("none", ServerSideEncryption::as_str);
        let kms_key = kms_key.unwrap_or("none");
        if algorithm == "aws:kms" && kms_key == self.settings.kms_key {
            return Ok(());
        }
        let message = format!(
            "{key} is encrypted with {algorithm} under key {kms_key}, but aws:kms under {} is configured",
            self.settings.kms_key
        );
        Err(Fault::new(FaultKind::Mismatch, operation, message))
    }

    /// Asks for an object; none where there is no such object.
    async fn open(&self, key: &str) -> Result<Option<GetObjectOutput>, Fault> {
        let request = self.s3.get_object().bucket(&self.settings.bucket).key(key);
        let answer = request.expected_bucket_owner(self.settings.owner.as_str()).send().await;
        match answer.map_err(|error| fault::read("GetObject", &error)) {
            Err(fault) if fault.kind == FaultKind::NotFound && fault.code != "NoSuchBucket" => Ok(None),
            other => other.map(Some),
        }
    }

    /// Tells whether the store has an object of exactly these bytes, encrypted as configured.
    async fn has(&self, key: &str, bytes: &[u8], sha256: Digest) -> Result<bool, Fault> {
        const OPERATION: &str = "HeadObject";
        let answer = self
            .s3
            .head_object()
            .bucket(&self.settings.bucket)
            .key(key)
            .expected_bucket_owner(self.settings.owner.as_str())
            .checksum_mode(ChecksumMode::Enabled)
            .send()
            .await
            .map_err(|error| fault::read(OPERATION, &error));
        let answer = match answer {
            // A caller that may not list the bucket is told "denied" for what does not exist. The write that
            // follows is conditional, so that nothing is overwritten on a guess.
            Err(fault) if matches!(fault.kind, FaultKind::NotFound | FaultKind::Denied) => return Ok(false),
            other => other?,
        };
        self.check_encryption(OPERATION, key, answer.server_side_encryption(), answer.ssekms_key_id())?;
        let matches = match answer.checksum_sha256() {
            Some(given) if !given.contains('-') => given == checksum(sha256),
            Some(given) if given == composite_checksum(bytes.chunks(self.settings.part).map(Digest::of)) => true,
            // Written by somebody else, in other parts or without a checksum: only the bytes tell.
            _ => self.get(key).await?.is_some_and(|(found, _)| found == bytes),
        };
        if matches {
            return Ok(true);
        }
        let message = format!("{key} has another content than its name says: somebody else wrote it");
        Err(Fault::new(FaultKind::Mismatch, OPERATION, message))
    }

    /// Sends an object in one request, in place of the one that `version` names or, where that is none, of nothing.
    /// Returns its version; none where something else was there.
    async fn put(
        &self,
        key: &str,
        bytes: Bytes,
        sha256: Digest,
        version: Option<&str>,
    ) -> Result<Option<String>, Fault> {
        const OPERATION: &str = "PutObject";
        let checksum = checksum(sha256);
        let answer = self
            .s3
            .put_object()
            .bucket(&self.settings.bucket)
            .key(key)
            .expected_bucket_owner(self.settings.owner.as_str())
            .server_side_encryption(ServerSideEncryption::AwsKms)
            .ssekms_key_id(&self.settings.kms_key)
            .checksum_sha256(&checksum)
            .set_if_match(version.map(str::to_owned))
            .set_if_none_match(version.is_none().then(|| "*".to_owned()))
            .body(ByteStream::from(bytes))
            .customize()
            // The checksum is signed: S3 compares it with the bytes that arrive, and hashing them again adds nothing.
            .disable_payload_signing()
            .send()
            .await
            .map_err(|error| fault::read(OPERATION, &error));
        let answer = match answer {
            Err(fault) if fault.kind == FaultKind::Conflict => return Ok(None),
            other => other?,
        };
        self.check_encryption(OPERATION, key, answer.server_side_encryption(), answer.ssekms_key_id())?;
        check_arrival(OPERATION, key, answer.checksum_sha256(), &checksum)?;
        Ok(Some(answer.e_tag().unwrap_or_default().to_owned()))
    }
}

#[async_trait]
impl Store for ArtifactStore {
    async fn ready(&self) -> Result<(), Fault> {
        const OPERATION: &str = "HeadBucket";
        let StoreSettings { bucket, owner, region, .. } = &self.settings;
        let answer = self.s3.head_bucket().bucket(bucket).expected_bucket_owner(owner.as_str()).send().await;
        let Err(fault) = answer.map_err(|error| fault::read(OPERATION, &error)) else { return Ok(()) };
        Err(match fault.kind {
            FaultKind::NotFound => {
                Fault { message: format!("bucket {bucket} does not exist in {region}"), code: String::new(), ..fault }
            }
            FaultKind::Denied => Fault {
                message: format!("bucket {bucket} is not account {owner}'s, or this caller may not s3:ListBucket it"),
                code: "AccessDenied".to_owned(),
                ..fault
            },
            _ => fault,
        })
    }

    async fn put_content(
        &self,
        key: &str,
        bytes: Bytes,
        sha256: Digest,
        sent: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<bool, Fault> {
        let size = bytes.len();
        let stored = settle(|| async {
            if self.has(key, &bytes, sha256).await? {
                return Ok(Some(false));
            }
            let written = if size >= self.settings.multipart_from {
                self.put_in_parts(key, &bytes, sent).await?
            } else {
                self.put(key, bytes.clone(), sha256, None).await?.is_some()
            };
            // Where somebody else was faster, what is there now is looked at again.
            Ok(written.then(|| {
                sent(size as u64);
                true
            }))
        });
        let unread =
            || Fault::new(FaultKind::Denied, "HeadObject", format!("{key} exists, but this caller may not read it"));
        stored.await?.ok_or_else(unread)
    }

    async fn put_once(&self, key: &str, bytes: Vec<u8>) -> Result<bool, Fault> {
        let sha256 = Digest::of(&bytes);
        let bytes = Bytes::from(bytes);
        // Where it is refused there is one: an older one, somebody else's, or this one, the answer to which was lost.
        let written = settle(|| async { Ok(Some(self.put(key, bytes.clone(), sha256, None).await?.is_some())) });
        Ok(written.await?.unwrap_or(false))
    }

    async fn replace(&self, key: &str, bytes: Vec<u8>, version: Option<&str>) -> Result<String, Fault> {
        let sha256 = Digest::of(&bytes);
        let bytes = Bytes::from(bytes);
        let conflict =
            || Fault::new(FaultKind::Conflict, "PutObject", format!("{key} was written by somebody else in between"));
        let written = settle(|| async {
            if let Some(written) = self.put(key, bytes.clone(), sha256, version).await? {
                return Ok(Some(written));
            }
            // The answer to the same write may have been lost.
            match self.get(key).await? {
                Some((found, version)) if found == bytes => Ok(Some(version)),
                _ => Err(conflict()),
            }
        });
        written.await?.ok_or_else(conflict)
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, Fault> {
        let mut keys = Vec::new();
        let mut page = None;
        loop {
            let answer = self
                .s3
                .list_objects_v2()
                .bucket(&self.settings.bucket)
                .prefix(prefix)
                .expected_bucket_owner(self.settings.owner.as_str())
                .set_continuation_token(page)
                .send()
                .await
                .map_err(|error| fault::read("ListObjectsV2", &error))?;
            keys.extend(answer.contents().iter().filter_map(|object| object.key()).map(str::to_owned));
            page = answer.next_continuation_token().map(str::to_owned);
            if page.is_none() {
                return Ok(keys);
            }
        }
    }

    async fn verify(&self, key: &str, sha256: Digest) -> Result<(), Fault> {
        const OPERATION: &str = "GetObject";
        let broken = |kind, why: &str| Fault::new(kind, OPERATION, format!("{key} {why}"));
        let found = self.open(key).await?;
        let answer = found.ok_or_else(|| broken(FaultKind::Mismatch, "is gone"))?;
        self.check_encryption(OPERATION, key, answer.server_side_encryption(), answer.ssekms_key_id())?;
        let mut body = answer.body;
        let mut hash = Sha256::new();
        while let Some(part) = body.next().await {
            let part = part.map_err(|error| broken(FaultKind::Unreachable, &format!("ended early: {error}")))?;
            hash.update(&part);
        }
        if Digest::from_bytes(hash.finalize().into()) == sha256 {
            return Ok(());
        }
        Err(broken(FaultKind::Mismatch, "has another content than its name says: somebody else wrote it"))
    }

    async fn get(&self, key: &str) -> Result<Option<(Vec<u8>, String)>, Fault> {
        const OPERATION: &str = "GetObject";
        let Some(answer) = self.open(key).await? else { return Ok(None) };
        let version = answer.e_tag().unwrap_or_default().to_owned();
        let body = answer.body.collect().await;
        let body = body.map_err(|error| Fault::new(FaultKind::Unreachable, OPERATION, format!("{key}: {error}")))?;
        Ok(Some((body.to_vec(), version)))
    }

    fn url(&self, key: &str) -> String {
        self.settings.url(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(region: &str, endpoint: Option<&str>) -> String {
        let settings = StoreSettings {
            bucket: "artifacts".into(),
            owner: AccountId::new("111111111111").unwrap(),
            kms_key: "key".into(),
            region: Region::new(region).unwrap(),
            endpoint: endpoint.map(str::to_owned),
            multipart_from: 1,
            part: 1,
        };
        settings.url("a/b.yaml")
    }

    #[test]
    fn cloudformation_is_given_a_url_that_it_can_reach() {
        let regional = "https://artifacts.s3.eu-west-1.amazonaws.com/a/b.yaml";
        assert_eq!(url("eu-west-1", None), regional);
        assert_eq!(url("eu-west-1", Some("https://bucket.vpce-1-2.s3.eu-west-1.vpce.amazonaws.com")), regional);
        assert_eq!(url("cn-north-1", None), "https://artifacts.s3.cn-north-1.amazonaws.com.cn/a/b.yaml");
        assert_eq!(url("eu-west-1", Some("http://127.0.0.1:4566/")), "http://127.0.0.1:4566/artifacts/a/b.yaml");
    }
}
