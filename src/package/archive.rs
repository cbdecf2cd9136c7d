//! The zip itself.

use std::fs::{self, File};
use std::io::{Cursor, Write as _};
use std::path::Path;

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipArchive, ZipWriter};

use super::Error;
use super::files::{self, Entry, Kind};
use crate::domain::Digest;

/// A packaged artifact.
#[derive(Debug, Clone)]
pub struct Archive {
    /// The zip.
    pub bytes: Vec<u8>,
    /// Its sha256, which is its name in the store.
    pub sha256: Digest,
    /// How many files it has.
    pub entries: usize,
}

/// From so many bytes on, an entry's header needs the Zip64 form.
const LARGE: u64 = u32::MAX as u64;

impl Archive {
    /// Zips entries of a folder in their order. Times are the zip format's zero (1980-01-01), modes are 755 or
    /// 644, and nothing else of this machine gets in.
    pub(super) fn of_files(folder: &Path, entries: &[Entry]) -> Result<Self, Error> {
        let zip_error = |source| Error::Zip { path: folder.to_owned(), source };
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        for entry in entries {
            let options = SimpleFileOptions::default()
                .last_modified_time(DateTime::default())
                .compression_method(CompressionMethod::Deflated)
                .compression_level(Some(6));
            if let Kind::Link(target) = &entry.kind {
                zip.add_symlink(entry.name.as_str(), target.as_str(), options.unix_permissions(0o777))
                    .map_err(zip_error)?;
                continue;
            }
            let path = files::path(folder, entry);
            let read = |source| Error::Read { path: path.clone(), source };
            let mut file = File::open(&path).map_err(read)?;
            let size = file.metadata().map_err(read)?.len();
            let mode = if entry.kind == Kind::Executable { 0o755 } else { 0o644 };
            zip.start_file(entry.name.as_str(), options.unix_permissions(mode).large_file(size >= LARGE))
                .map_err(zip_error)?;
            std::io::copy(&mut file, &mut zip).map_err(read)?;
        }
        zip.flush().map_err(|source| Error::Read { path: folder.to_owned(), source })?;
        let bytes = zip.finish().map_err(zip_error)?.into_inner();
        Ok(Self { sha256: Digest::of(&bytes), entries: entries.len(), bytes })
    }

    /// Takes a zip as it is, after a look whether it is one.
    pub(super) fn of_zip(path: &Path) -> Result<Self, Error> {
        let bytes = fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        let zip =
            ZipArchive::new(Cursor::new(&bytes)).map_err(|source| Error::Zip { path: path.to_owned(), source })?;
        let entries = zip.len();
        Ok(Self { sha256: Digest::of(&bytes), entries, bytes })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::time::{Duration, SystemTime};

    use super::super::package;
    use super::*;

    /// Makes the same tree with other times, modes and order of creation.
    fn tree(reversed: bool, mode: u32, age: u64) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let mut names = vec!["index.js", "lib/a.js", "lib/b.js", "bin/run"];
        if reversed {
            names.reverse();
        }
        for name in names {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let file = File::create(&path).unwrap();
            (&file).write_all(name.repeat(100).as_bytes()).unwrap();
            let executable = if name == "bin/run" { 0o100 } else { 0 };
            file.set_permissions(fs::Permissions::from_mode(mode | executable)).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
        }
        symlink("../lib/a.js", folder.path().join("bin/link")).unwrap();
        folder
    }

    #[test]
    fn the_same_files_are_the_same_bytes_whatever_their_times_order_and_umask() {
        let one = package(tree(false, 0o600, 0).path(), &[], &[]).unwrap();
        let other = package(tree(true, 0o664, 1_000_000).path(), &[], &[]).unwrap();
        assert_eq!(one.bytes, other.bytes);
        assert_eq!(one.entries, 5);
        // The bytes are a promise: a release that was made by another build of Tenantry is found again.
        insta::assert_snapshot!(one.sha256, @"325929aef4281ca39aa80b500333e53d0aeb480f736fb382893e3adea148ee08");
    }

    #[test]
    fn contents_modes_and_links_survive() {
        let archive = package(tree(false, 0o600, 0).path(), &[], &[]).unwrap();
        let mut zip = ZipArchive::new(Cursor::new(&archive.bytes)).unwrap();
        let mode = |zip: &mut ZipArchive<_>, name: &str| zip.by_name(name).unwrap().unix_mode().unwrap();
        assert_eq!(mode(&mut zip, "index.js"), 0o100_644);
        assert_eq!(mode(&mut zip, "bin/run"), 0o100_755);
        assert_eq!(mode(&mut zip, "bin/link"), 0o120_777);
        let mut text = String::new();
        zip.by_name("lib/b.js").unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "lib/b.js".repeat(100));
    }

    #[test]
    fn a_changed_byte_changes_the_digest_and_a_zip_is_taken_as_it_is() {
        let folder = tree(false, 0o600, 0);
        let before = package(folder.path(), &[], &[]).unwrap();
        fs::write(folder.path().join("index.js"), "other").unwrap();
        let after = package(folder.path(), &[], &[]).unwrap();
        assert_ne!(before.sha256, after.sha256);
        let path = folder.path().join("a.zip");
        fs::write(&path, &after.bytes).unwrap();
        assert_eq!(package(&path, &[], &[]).unwrap().sha256, after.sha256);
        fs::write(&path, "no zip").unwrap();
        assert!(matches!(package(&path, &[], &[]), Err(Error::Zip { .. })));
    }
}
