//! What was compressed before: the last zip of each artifact, and where in it which content is.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::writer::Content;
use crate::domain::Digest;

/// Whose bytes a cache holds: other versions may compress otherwise, and a release must not depend on a cache.
const ENGINE: &str = concat!("tenantry ", env!("CARGO_PKG_VERSION"), " zip 1");

/// A folder for what was compressed, to be kept from build to build. It may be lost or broken at any time.
#[derive(Debug, Clone)]
pub struct Cache {
    folder: PathBuf,
}

/// The last zip of an artifact.
#[derive(Debug)]
pub struct Last {
    /// Its bytes.
    pub zip: Bytes,
    /// Its digest, with which its bytes were compared.
    pub sha256: Digest,
    /// What was zipped: names, modes and contents.
    pub tree: Digest,
    kept: HashMap<Digest, Kept>,
}

/// Where a content is in a zip.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Kept {
    start: u64,
    end: u64,
    crc: u32,
    size: u64,
    deflated: bool,
}

#[derive(Serialize, Deserialize)]
struct Index {
    engine: String,
    zip: Digest,
    tree: Digest,
    entries: Vec<(Digest, Kept)>,
    /// The digest of all that is above: what was damaged is not believed.
    seal: Option<Digest>,
}

impl Index {
    fn seal(&self) -> Digest {
        Digest::of_json(&(&self.engine, &self.zip, &self.tree, &self.entries))
    }
}

impl Kept {
    /// Says where a content was written to.
    pub fn new(place: Range<u64>, Content { crc, size, deflated }: Content) -> Self {
        Self { start: place.start, end: place.end, crc, size, deflated }
    }

    /// Returns the place in the zip.
    pub fn place(&self) -> Range<u64> {
        self.start..self.end
    }

    /// Returns what is there.
    pub fn content(&self) -> Content {
        Content { crc: self.crc, size: self.size, deflated: self.deflated }
    }
}

impl Last {
    /// Returns a part of the zip.
    pub fn part(&self, offset: u64, length: u64) -> &[u8] {
        let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
        self.zip.get(place(offset)..place(offset + length)).unwrap_or_default()
    }

    /// Returns where a content is in the zip.
    pub fn find(&self, content: &Digest) -> Option<Kept> {
        self.kept.get(content).copied()
    }
}

impl Cache {
    /// Uses a folder, which need not be there.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Returns the folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn path(&self, source: &Path, extension: &str) -> PathBuf {
        self.folder.join(format!("{}.{extension}", Digest::of(source.as_os_str().as_encoded_bytes()).short()))
    }

    /// Returns the last zip of a folder, if it was made by the same engine and is what was written.
    pub fn last(&self, source: &Path) -> Option<Last> {
        let index: Index = serde_json::from_slice(&fs::read(self.path(source, "json")).ok()?).ok()?;
        let zip = fs::read(self.path(source, "zip")).ok()?;
        let within = |kept: &Kept| kept.start <= kept.end && kept.end <= zip.len() as u64;
        let is_sound = index.engine == ENGINE
            && index.seal == Some(index.seal())
            && index.entries.iter().all(|(_, kept)| within(kept))
            && Digest::of(&zip) == index.zip;
        let Index { zip: sha256, tree, entries, .. } = index;
        is_sound.then(|| Last { zip: zip.into(), sha256, tree, kept: entries.into_iter().collect() })
    }

    /// Keeps a zip for the next time.
    pub fn keep(
        &self,
        source: &Path,
        zip: &[u8],
        sha256: Digest,
        tree: Digest,
        entries: Vec<(Digest, Kept)>,
    ) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let mut index = Index { engine: ENGINE.to_owned(), zip: sha256, tree, entries, seal: None };
        index.seal = Some(index.seal());
        // The zip first: an index without its zip is a cache that is broken, and is noticed by the digest.
        self.replace(&self.path(source, "zip"), zip)?;
        self.replace(&self.path(source, "json"), &serde_json::to_vec(&index)?)
    }

    /// Writes a file beside, and moves it to its place: another process may be reading.
    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let beside = self.folder.join(format!("{:016x}.part", fastrand::u64(..)));
        fs::write(&beside, bytes).and_then(|()| fs::rename(&beside, path)).inspect_err(|_| _ = fs::remove_file(&beside))
    }
}
