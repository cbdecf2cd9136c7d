//! Deleting what a stack has left behind because it holds data: only what somebody has named.

use aws_sdk_s3::types::{Delete, ObjectIdentifier};

use super::{Tooling, fault};
use crate::domain::{Fault, FaultKind};

/// For how many days a key waits for its deletion, in which somebody may still miss it.
const DAYS: i32 = 30;

impl Tooling {
    /// Deletes a bucket with everything in it, all versions included. Returns how many objects there were.
    ///
    /// # Errors
    ///
    /// Returns S3's fault; what was deleted by then stays deleted.
    pub async fn delete_bucket(&self, bucket: &str, endpoint: Option<&str>) -> Result<usize, Fault> {
        let config = aws_sdk_s3::config::Builder::from(&self.config).force_path_style(endpoint.is_some());
        let s3 = aws_sdk_s3::Client::from_conf(config.build());
        let broken = |why: String| Fault::new(FaultKind::Invalid, "DeleteObjects", why);
        let mut deleted = 0;
        loop {
            let page = s3.list_object_versions().bucket(bucket).send().await;
            let page = page.map_err(|error| fault::read("ListObjectVersions", &error))?;
            let versions = page.versions().iter().map(|one| (one.key(), one.version_id()));
            let markers = page.delete_markers().iter().map(|one| (one.key(), one.version_id()));
            let objects: Vec<ObjectIdentifier> = versions
                .chain(markers)
                .map(|(key, version)| {
                    let object = ObjectIdentifier::builder().key(key.unwrap_or_default());
                    object.set_version_id(version.map(str::to_owned)).build()
                })
                .collect::<Result<_, _>>()
                .map_err(|error| broken(error.to_string()))?;
            if objects.is_empty() {
                break;
            }
            deleted += objects.len();
            let delete = Delete::builder().set_objects(Some(objects)).quiet(true).build();
            let delete = delete.map_err(|error| broken(error.to_string()))?;
            let answer = s3.delete_objects().bucket(bucket).delete(delete).send().await;
            let answer = answer.map_err(|error| fault::read("DeleteObjects", &error))?;
            if let Some(error) = answer.errors().first() {
                let (key, why) = (error.key().unwrap_or_default(), error.message().unwrap_or_default());
                return Err(broken(format!("{key}: {why}")));
            }
        }
        let answer = s3.delete_bucket().bucket(bucket).send().await;
        answer.map_err(|error| fault::read("DeleteBucket", &error))?;
        Ok(deleted)
    }

    /// Has a key deleted after thirty days. What it has encrypted cannot be read from now on.
    ///
    /// # Errors
    ///
    /// Returns KMS's fault.
    pub async fn schedule_key_deletion(&self, key: &str) -> Result<(), Fault> {
        let kms = aws_sdk_kms::Client::new(&self.config);
        let answer = kms.schedule_key_deletion().key_id(key).pending_window_in_days(DAYS).send().await;
        answer.map(drop).map_err(|error| fault::read("ScheduleKeyDeletion", &error))
    }
}
