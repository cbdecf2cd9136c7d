//! What is released: immutable, and named by its content.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Digest;

/// Names a release by its content: the first twelve digits of a sha256 over the application's name, the bucket, and
/// digests and keys of the template and the artifacts. The same bytes in the same place are the same release,
/// whoever packaged them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ReleaseId(String);

impl ReleaseId {
    /// Returns the id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ReleaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl From<&str> for ReleaseId {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// A zip in the artifact bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// sha256 of the zip's bytes.
    pub sha256: Digest,
    /// Size of the zip in bytes.
    pub size: u64,
    /// Key of the object in the artifact bucket.
    pub key: String,
}

/// The template in the artifact bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateObject {
    /// sha256 of the template's bytes.
    pub sha256: Digest,
    /// Key of the object in the artifact bucket.
    pub key: String,
}

/// One version of the application, as its record in the store says it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// The release's name, derived from its content.
    pub id: ReleaseId,
    /// The application's name.
    pub application: String,
    /// The bucket that holds the objects.
    pub bucket: String,
    /// Artifacts by the name that the configuration gives them.
    pub artifacts: BTreeMap<String, Artifact>,
    /// By tenant, the artifacts that are the tenant's own in place of those that all share.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub variants: BTreeMap<String, BTreeMap<String, Artifact>>,
    /// The packaged template.
    pub template: TemplateObject,
    /// Where the bytes came from. Not part of the id.
    pub provenance: Provenance,
}

/// Who packaged a release and from what: kept for an auditor, without influence on the id.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// The source commit, if it is known.
    pub commit: Option<String>,
    /// Tenantry's version.
    pub tool_version: String,
    /// When it was packaged first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packaged: Option<Timestamp>,
}

impl Release {
    /// Builds a release from its parts and names it.
    pub fn new(
        application: &str,
        bucket: &str,
        artifacts: BTreeMap<String, Artifact>,
        variants: BTreeMap<String, BTreeMap<String, Artifact>>,
        template: TemplateObject,
        provenance: Provenance,
    ) -> Self {
        let mut content = format!("{application}\n{bucket}\n{} {}\n", template.sha256, template.key);
        for (name, artifact) in &artifacts {
            let _ = writeln!(content, "{name} {} {}", artifact.sha256, artifact.key);
        }
        for (tenant, name, artifact) in
            variants.iter().flat_map(|(tenant, own)| own.iter().map(move |(n, a)| (tenant, n, a)))
        {
            let _ = writeln!(content, "{tenant} {name} {} {}", artifact.sha256, artifact.key);
        }
        Self {
            id: ReleaseId(Digest::of(content).short()),
            application: application.to_owned(),
            bucket: bucket.to_owned(),
            artifacts,
            variants,
            template,
            provenance,
        }
    }

    /// Returns an artifact as a tenant gets it: its own, or the one that all share.
    pub fn artifact(&self, tenant: &str, name: &str) -> Option<&Artifact> {
        self.variants.get(tenant).and_then(|own| own.get(name)).or_else(|| self.artifacts.get(name))
    }

    /// Returns every zip of the release with its name, those of single tenants too.
    pub fn all_artifacts(&self) -> impl Iterator<Item = (String, &Artifact)> {
        let shared = self.artifacts.iter().map(|(name, artifact)| (name.clone(), artifact));
        shared.chain(self.variants.iter().flat_map(|(tenant, own)| {
            own.iter().map(move |(name, artifact)| (format!("{name} of {tenant}"), artifact))
        }))
    }

    /// Tells whether the release's content is what its name says.
    pub fn fits_its_name(&self) -> bool {
        let Self { application, bucket, artifacts, variants, template, provenance, .. } = self.clone();
        Self::new(&application, &bucket, artifacts, variants, template, provenance).id == self.id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(code: &str, commit: &str) -> Release {
        let artifact = Artifact { sha256: Digest::of(code), size: 1, key: "k".into() };
        let template = TemplateObject { sha256: Digest::of("template"), key: "t".into() };
        let provenance = Provenance { commit: Some(commit.into()), tool_version: "1".into(), packaged: None };
        let own = BTreeMap::from([("gnome".into(), BTreeMap::from([("code".into(), artifact.clone())]))]);
        Release::new("app", "bucket", BTreeMap::from([("code".into(), artifact)]), own, template, provenance)
    }

    #[test]
    fn the_id_follows_the_bytes_and_not_the_commit() {
        assert_eq!(release("a", "1").id, release("a", "2").id);
        assert_ne!(release("a", "1").id, release("b", "1").id);
        let mut edited = release("a", "1");
        assert!(edited.fits_its_name());
        edited.template.key = "elsewhere".into();
        assert!(!edited.fits_its_name());
        let mut edited = release("a", "1");
        edited.variants.clear();
        assert!(!edited.fits_its_name());
    }
}
