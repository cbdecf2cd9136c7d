//! Large objects: in parts, several at a time, and on from where an earlier upload has ended.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{
    ChecksumAlgorithm, ChecksumType, CompletedMultipartUpload, CompletedPart, ServerSideEncryption,
};
use aws_smithy_types::DateTime;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

use super::fault;
use super::store::{ArtifactStore, check_arrival, checksum};
use crate::domain::{Digest, Fault, FaultKind};

/// Parts of one object that are under way at a time.
const AT_A_TIME: usize = 4;

/// Returns the checksum of an object that is sent in parts: the checksum of its parts' checksums, and their number.
/// Source: <https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html>
pub(super) fn composite_checksum(parts: impl Iterator<Item = Digest>) -> String {
    let digests: Vec<Digest> = parts.collect();
    let all: Vec<u8> = digests.iter().flat_map(|digest| *digest.as_bytes()).collect();
    format!("{}-{}", checksum(Digest::of(all)), digests.len())
}

/// A part, by its number from 1 on.
struct Part {
    number: i32,
    bytes: Bytes,
    sha256: Digest,
    checksum: String,
}

/// Cuts an object into its parts.
fn parts(bytes: &Bytes, size: usize) -> Vec<Part> {
    let part = |(number, chunk): (i32, &[u8])| {
        let sha256 = Digest::of(chunk);
        Part { number, bytes: bytes.slice_ref(chunk), sha256, checksum: checksum(sha256) }
    };
    (1..).zip(bytes.chunks(size)).map(part).collect()
}

impl ArtifactStore {
    /// Sends a large object in parts; what an earlier upload has brought there is not sent again. Returns false where
    /// somebody else was faster.
    ///
    /// Parts of an upload that fails stay, for the next one to go on; the bucket's lifecycle rule clears away those
    /// that nobody comes back for.
    pub(super) async fn put_in_parts(
        &self,
        key: &str,
        bytes: &Bytes,
        sent: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<bool, Fault> {
        let parts = parts(bytes, self.settings.part);
        if let Some((upload, there)) = self.unfinished(key, &parts).await {
            match self.go_on(key, &parts, (&upload, there), sent).await {
                // An upload that was begun under another key, or that may not be taken up, is nobody's any more.
                Err(fault) if !fault.passes() => self.abort(key, &upload).await,
                other => return other,
            }
        }
        let upload = self.create_upload(key).await?;
        self.go_on(key, &parts, (&upload, BTreeMap::new()), sent).await
    }

    /// Sends the parts that are not there, and completes the upload.
    async fn go_on(
        &self,
        key: &str,
        parts: &[Part],
        (upload, mut there): (&str, BTreeMap<i32, String>),
        sent: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<bool, Fault> {
        let known: u64 = parts.iter().filter(|part| there.contains_key(&part.number)).map(Part::size).sum();
        let total = AtomicU64::new(known);
        if known > 0 {
            sent(known);
        }
        let mut sends = Vec::new();
        for part in parts {
            if !there.contains_key(&part.number) {
                sends.push(self.send_part(key, upload, part, &total, sent));
            }
        }
        let result: Result<Vec<(i32, String)>, Fault> =
            stream::iter(sends).buffer_unordered(AT_A_TIME).try_collect().await;
        let arrived = match result {
            Ok(arrived) => arrived,
            // Somebody else has finished the same upload.
            Err(fault) if fault.code == "NoSuchUpload" => return Ok(false),
            Err(fault) => return Err(fault),
        };
        there.extend(arrived);
        let completed = self.complete(key, upload, parts, &there).await;
        if matches!(completed, Ok(false)) {
            self.abort(key, upload).await;
        }
        completed
    }

    /// Returns an upload of this object that has not ended, with the tags of the parts that are right. A caller that may
    /// not look finds none.
    async fn unfinished(&self, key: &str, parts: &[Part]) -> Option<(String, BTreeMap<i32, String>)> {
        let request = self.s3.list_multipart_uploads().bucket(&self.settings.bucket).prefix(key);
        let answer = request.expected_bucket_owner(self.settings.owner.as_str()).send().await.ok()?;
        let of_this = answer.uploads().iter().filter(|upload| {
            upload.key() == Some(key) && upload.checksum_algorithm() == Some(&ChecksumAlgorithm::Sha256)
        });
        let id = of_this.max_by_key(|upload| upload.initiated().map(DateTime::secs))?.upload_id()?.to_owned();
        let mut pages = self
            .s3
            .list_parts()
            .bucket(&self.settings.bucket)
            .key(key)
            .upload_id(&id)
            .expected_bucket_owner(self.settings.owner.as_str())
            .into_paginator()
            .send();
        let mut there = BTreeMap::new();
        while let Some(page) = pages.next().await {
            for found in page.ok()?.parts() {
                let number = found.part_number().unwrap_or_default();
                let same = |part: &&Part| part.number == number && found.checksum_sha256() == Some(&part.checksum);
                if let (Some(_), Some(tag)) = (parts.iter().find(same), found.e_tag()) {
                    there.insert(number, tag.to_owned());
                }
            }
        }
        // One part at least is sent: its answer says under which key the upload was begun.
        if there.len() == parts.len() {
            there.pop_last();
        }
        Some((id, there))
    }

    async fn create_upload(&self, key: &str) -> Result<String, Fault> {
        let upload = self
            .s3
            .create_multipart_upload()
            .bucket(&self.settings.bucket)
            .key(key)
            .expected_bucket_owner(self.settings.owner.as_str())
            .server_side_encryption(ServerSideEncryption::AwsKms)
            .ssekms_key_id(&self.settings.kms_key)
            .checksum_algorithm(ChecksumAlgorithm::Sha256)
            .checksum_type(ChecksumType::Composite)
            .send()
            .await
            .map_err(|error| fault::read("CreateMultipartUpload", &error))?;
        Ok(upload.upload_id().unwrap_or_default().to_owned())
    }

    /// Sends a part, and returns its number and tag.
    async fn send_part(
        &self,
        key: &str,
        upload: &str,
        part: &Part,
        total: &AtomicU64,
        sent: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<(i32, String), Fault> {
        let answer = self
            .s3
            .upload_part()
            .bucket(&self.settings.bucket)
            .key(key)
            .upload_id(upload)
            .part_number(part.number)
            .expected_bucket_owner(self.settings.owner.as_str())
            .checksum_sha256(&part.checksum)
            .body(ByteStream::from(part.bytes.clone()))
            .customize()
            // The part's checksum is signed.
            .disable_payload_signing()
            .send()
            .await
            .map_err(|error| fault::read("UploadPart", &error))?;
        self.check_encryption("UploadPart", key, answer.server_side_encryption(), answer.ssekms_key_id())?;
        sent(total.fetch_add(part.size(), Ordering::Relaxed) + part.size());
        Ok((part.number, answer.e_tag().unwrap_or_default().to_owned()))
    }

    async fn complete(
        &self,
        key: &str,
        upload: &str,
        parts: &[Part],
        tags: &BTreeMap<i32, String>,
    ) -> Result<bool, Fault> {
        const OPERATION: &str = "CompleteMultipartUpload";
        let completed = |part: &Part| {
            let tag = tags.get(&part.number).cloned();
            CompletedPart::builder().part_number(part.number).set_e_tag(tag).checksum_sha256(&part.checksum).build()
        };
        let completed = parts.iter().map(completed).collect();
        let answer = self
            .s3
            .complete_multipart_upload()
            .bucket(&self.settings.bucket)
            .key(key)
            .upload_id(upload)
            .expected_bucket_owner(self.settings.owner.as_str())
            .if_none_match("*")
            .multipart_upload(CompletedMultipartUpload::builder().set_parts(Some(completed)).build())
            .send()
            .await
            .map_err(|error| fault::read(OPERATION, &error));
        let answer = match answer {
            // The answer to the same request may have been lost before.
            Err(fault) if fault.kind == FaultKind::Conflict || fault.code == "NoSuchUpload" => return Ok(false),
            other => other?,
        };
        self.check_encryption(OPERATION, key, answer.server_side_encryption(), answer.ssekms_key_id())?;
        let whole = composite_checksum(parts.iter().map(|part| part.sha256));
        check_arrival(OPERATION, key, answer.checksum_sha256(), &whole)?;
        Ok(true)
    }

    /// Clears away an upload that nobody will end.
    async fn abort(&self, key: &str, upload: &str) {
        let abort = self.s3.abort_multipart_upload().bucket(&self.settings.bucket).key(key).upload_id(upload);
        let _ = abort.expected_bucket_owner(self.settings.owner.as_str()).send().await;
    }
}

impl Part {
    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }
}
