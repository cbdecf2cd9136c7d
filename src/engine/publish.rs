//! Bringing a package into the store: every object once, then the record that makes it a release.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::Engine;
use super::records::{edited, written};
use super::window::{self, Flow};
use crate::domain::release::Provenance;
use crate::domain::{AccountId, Artifact, Digest, Fault, FaultKind, Release, TemplateObject};
use crate::event::Event;
use crate::package::{Archive, Object};

/// What was packaged on this machine.
pub struct Package {
    /// The application's name.
    pub application: String,
    /// Bucket and prefix of the store.
    pub bucket: String,
    /// Prefix of what tenants may read, with a slash at its end.
    pub prefix: String,
    /// The zips that all tenants share, by artifact name.
    pub artifacts: BTreeMap<String, Archive>,
    /// The zips that are one tenant's own, with the tenant's account, by tenant and artifact name.
    pub variants: BTreeMap<String, (AccountId, BTreeMap<String, Archive>)>,
    /// What the template names by itself, with the keys that it says, by where it comes from.
    pub objects: BTreeMap<String, Object>,
    /// The template's bytes.
    pub template: Vec<u8>,
    /// The template's file extension, `yaml` or `json`.
    pub template_extension: &'static str,
    /// Where it came from.
    pub provenance: Provenance,
}

impl Package {
    /// Returns the bytes of all objects by the keys that they have in the release.
    pub fn contents<'a>(&'a self, release: &'a Release) -> BTreeMap<&'a str, &'a [u8]> {
        let mut contents: BTreeMap<&str, &[u8]> = BTreeMap::new();
        contents.insert(&release.template.key, &self.template);
        contents.extend(self.objects.values().map(|object| (object.key.as_str(), &object.archive.bytes[..])));
        let own = self.variants.iter().filter_map(|(tenant, (_, zips))| Some((zips, release.variants.get(tenant)?)));
        for (zips, artifacts) in own.chain([(&self.artifacts, &release.artifacts)]) {
            let named = zips.iter().filter_map(|(name, zip)| Some((artifacts.get(name)?.key.as_str(), &zip.bytes[..])));
            contents.extend(named);
        }
        contents
    }

    /// Returns the release that this package is, with the keys that its objects have or will have.
    pub fn release(&self) -> Release {
        let shared = shared_folder(&self.prefix, &self.application);
        let all = |zips: &BTreeMap<String, Archive>, folder: &str| -> BTreeMap<String, Artifact> {
            let artifact = |Archive { bytes, sha256, .. }: &Archive| Artifact {
                sha256: *sha256,
                size: bytes.len() as u64,
                key: format!("{folder}/artifacts/{sha256}.zip"),
            };
            zips.iter().map(|(name, archive)| (name.clone(), artifact(archive))).collect()
        };
        let named = |Object { archive, key }: &Object| Artifact {
            sha256: archive.sha256,
            size: archive.bytes.len() as u64,
            key: key.clone(),
        };
        let mut artifacts = all(&self.artifacts, &shared);
        artifacts.extend(self.objects.iter().map(|(name, object)| (name.clone(), named(object))));
        // What is one tenant's own is where that tenant's account alone may read.
        let own = |(tenant, (account, zips)): (&String, &(AccountId, BTreeMap<String, Archive>))| {
            (tenant.clone(), all(zips, &format!("{}{account}/{}", self.prefix, self.application)))
        };
        let variants = self.variants.iter().map(own).collect();
        let sha256 = Digest::of(&self.template);
        let template =
            TemplateObject { sha256, key: format!("{shared}/templates/{sha256}.{}", self.template_extension) };
        Release::new(&self.application, &self.bucket, artifacts, variants, template, self.provenance.clone())
    }
}

/// Returns where an application's objects are that all tenants may read.
pub fn shared_folder(prefix: &str, application: &str) -> String {
    format!("{prefix}shared/{application}")
}

/// Returns the key of a release's record.
pub fn record_key(application: &str, release: &str) -> String {
    format!("tenantry/{application}/releases/{release}.json")
}

impl Engine {
    /// Sends what the store does not have, and writes the release's record once.
    ///
    /// # Errors
    ///
    /// Returns the first fault of the store; no record is written then.
    pub async fn publish(&self, package: Package) -> Result<Release, Fault> {
        let release = package.release();
        let key = record_key(&release.application, release.id.as_str());
        let known = match self.store.get(&key).await {
            Ok(found) => found.is_some(),
            // The first that is asked of the store: what is wrong with all of it is told as such.
            Err(fault) if matches!(fault.kind, FaultKind::NotFound | FaultKind::Denied) => {
                return Err(self.store.ready().await.err().unwrap_or(fault));
            }
            Err(fault) => return Err(fault),
        };
        let mut objects: Vec<(String, Digest, Bytes)> = Vec::new();
        for Object { archive, key } in package.objects.into_values() {
            objects.push((key, archive.sha256, archive.bytes));
        }
        for (name, archive) in package.artifacts {
            objects.push((release.artifacts[&name].key.clone(), archive.sha256, archive.bytes));
        }
        for (tenant, (_, zips)) in package.variants {
            for (name, archive) in zips {
                objects.push((release.variants[&tenant][&name].key.clone(), archive.sha256, archive.bytes));
            }
        }
        objects.push((release.template.key.clone(), release.template.sha256, package.template.into()));
        objects.sort_by(|a, b| a.0.cmp(&b.0));
        objects.dedup_by(|a, b| a.0 == b.0);

        let send = |(key, sha256, bytes): (String, Digest, Bytes)| {
            let (store, events) = (self.store.clone(), self.events.clone());
            async move {
                let size = bytes.len() as u64;
                let progress = |sent| events.emit(Event::Uploading { key: key.clone(), sent, size });
                let sent = store.put_content(&key, bytes, sha256, &progress).await?;
                events.emit(Event::Stored { key: key.clone(), size, sent });
                Ok(())
            }
        };
        let judge = |result: &Result<(), Fault>| if result.is_ok() { Flow::Start } else { Flow::Hold };
        for result in window::run(objects, 4, &self.stop, send, judge).await {
            match result {
                Ok(result) => result?,
                Err(_) => {
                    return Err(Fault::new(FaultKind::Unreachable, "PutObject", "the upload was stopped"));
                }
            }
        }
        // Who deploys what is known sends nothing.
        let new = !known && self.store.put_once(&key, written(&release)).await?;
        self.events.emit(Event::Released { release: release.id.clone(), known: !new });
        Ok(release)
    }

    /// Reads a release's record.
    ///
    /// # Errors
    ///
    /// Returns the store's fault, or a mismatch where the record is not one of this release.
    pub async fn release(&self, application: &str, id: &str) -> Result<Option<Release>, Fault> {
        let key = record_key(application, id);
        let Some(release) = self.record::<Release>(&key).await? else { return Ok(None) };
        if !release.fits_its_name() || release.id.as_str() != id {
            return Err(edited(&key, "the record does not fit its name"));
        }
        Ok(Some(release))
    }

    /// Returns all releases of an application, the latest packaged first. A record that does not fit its name is told
    /// and left out.
    ///
    /// # Errors
    ///
    /// Returns the store's fault.
    pub async fn releases(&self, application: &str) -> Result<Vec<Release>, Fault> {
        let keys = self.store.list(&record_key(application, "").replace(".json", "")).await?;
        let ids = keys.iter().filter_map(|key| key.rsplit('/').next()?.strip_suffix(".json").map(str::to_owned));
        let read = |id: String| {
            let (engine, application) = (self.clone(), application.to_owned());
            async move { engine.release(&application, &id).await }
        };
        let mut releases = Vec::new();
        for found in window::run(ids.collect(), 64, &self.stop, read, |_| Flow::Start).await {
            match found {
                Ok(Ok(found)) => releases.extend(found),
                Ok(Err(fault)) if fault.kind == FaultKind::Mismatch => self.events.notice(fault.message),
                Ok(Err(fault)) => return Err(fault),
                Err(_) => return Err(Fault::new(FaultKind::Unreachable, "GetObject", "the run was stopped")),
            }
        }
        releases.sort_by(|a: &Release, b| b.provenance.packaged.cmp(&a.provenance.packaged).then(a.id.cmp(&b.id)));
        Ok(releases)
    }

    /// Reads every artifact of a release from the store, and compares its bytes with the digest in the record.
    ///
    /// # Errors
    ///
    /// Returns the store's fault, or a mismatch where an artifact is gone or another.
    pub async fn verify_artifacts(&self, release: &Release) -> Result<(), Fault> {
        let artifacts: Vec<Artifact> = release.all_artifacts().map(|(_, artifact)| artifact.clone()).collect();
        let verify = |artifact: Artifact| {
            let store = self.store.clone();
            async move { store.verify(&artifact.key, artifact.sha256).await }
        };
        for result in window::run(artifacts, 4, &self.stop, verify, |_| Flow::Start).await {
            result.unwrap_or_else(|_| Err(Fault::new(FaultKind::Unreachable, "GetObject", "the run was stopped")))?;
        }
        Ok(())
    }

    /// Reads a release's template, and compares it with the digest in the release's record.
    ///
    /// # Errors
    ///
    /// Returns the store's fault, or a mismatch where the template is gone or another.
    pub async fn template(&self, release: &Release) -> Result<Vec<u8>, Fault> {
        let TemplateObject { sha256, key } = &release.template;
        match self.store.get(key).await? {
            Some((bytes, _)) if Digest::of(&bytes) == *sha256 => Ok(bytes),
            found => {
                let what = if found.is_some() { "it has another content than its name says" } else { "it is gone" };
                Err(edited(key, what))
            }
        }
    }
}
