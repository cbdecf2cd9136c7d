//! A folder to a zip: read, compressed and hashed by all cores, written in order.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Cursor, ErrorKind, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::thread;

use bytes::Bytes;
use crc32fast::Hasher;
use sha2::{Digest as _, Sha256};
use zip::ZipArchive;

use super::Error;
use super::cache::{Cache, Kept, Last};
use super::deflate::{self, Deflate};
use super::files::{self, Entry, Kind};
use super::ordered::in_order;
use super::writer::{Content, Open, Writer};
use crate::domain::Digest;

/// A packaged artifact.
#[derive(Debug, Clone)]
pub struct Archive {
    /// The zip, or the file where it is none.
    pub bytes: Bytes,
    /// Its sha256, which is its name in the store.
    pub sha256: Digest,
    /// How many files it has.
    pub entries: usize,
    /// How many bytes they have unzipped.
    pub unzipped: u64,
    /// The largest of them, with their sizes.
    pub largest: Vec<(String, u64)>,
}

/// A file of so many bytes and more is compressed in parts.
const LARGE: u64 = 4 << 20;
/// Size of a part.
const PART: u64 = 1 << 20;
/// Bytes that are read or compressed ahead of the writer.
const AHEAD: usize = 16 << 20;
/// More threads than this would wait for the writer.
const THREADS: usize = 16;
/// How many of the largest entries are named.
const NAMED: usize = 5;

/// A piece of an entry that is made by one thread.
struct Job<'a> {
    entry: &'a Entry,
    /// Its number.
    number: usize,
    path: PathBuf,
    part: Part<'a>,
    is_first: bool,
    is_last: bool,
}

enum Part<'a> {
    /// What a link says.
    Link,
    /// A small file.
    Whole,
    /// A part of a large file, by its offset and length.
    Some(u64, u64),
    /// What was compressed before, by its place in the last zip.
    Kept(&'a Last, Kept, u64, u64),
}

/// What a thread has made of a job.
struct Piece {
    bytes: Vec<u8>,
    crc: Hasher,
    size: u64,
    deflated: bool,
}

impl Piece {
    fn stored(bytes: Vec<u8>) -> Self {
        let mut crc = Hasher::new();
        crc.update(&bytes);
        Self { size: bytes.len() as u64, bytes, crc, deflated: false }
    }
}

/// What a thread keeps from job to job.
struct Tools {
    deflate: Deflate,
    read: Vec<u8>,
}

impl Job<'_> {
    fn cost(&self) -> usize {
        let bytes = match &self.part {
            Part::Link => 0,
            Part::Whole => self.entry.size,
            Part::Some(_, length) | Part::Kept(_, _, _, length) => *length,
        };
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    fn work(&self, tools: &mut Tools) -> Result<Piece, Error> {
        let failed = |source| Error::Read { path: self.path.clone(), source };
        match (&self.part, &self.entry.kind) {
            (Part::Link, Kind::Link(target)) => Ok(Piece::stored(target.clone().into_bytes())),
            (Part::Link | Part::Whole, _) => {
                let read = read(&self.path, self.entry.size, &mut tools.read).map_err(failed)?;
                let file = &tools.read[..read];
                let mut crc = Hasher::new();
                crc.update(file);
                let size = file.len() as u64;
                Ok(match tools.deflate.whole(file) {
                    Some(bytes) => Piece { bytes, crc, size, deflated: true },
                    None => Piece { bytes: file.to_vec(), crc, size, deflated: false },
                })
            }
            (Part::Some(offset, length), _) => {
                let before = (*offset).min(deflate::WINDOW as u64);
                tools.read.clear();
                let mut file = File::open(&self.path).map_err(failed)?;
                file.seek(SeekFrom::Start(offset - before)).map_err(failed)?;
                file.take(before + length).read_to_end(&mut tools.read).map_err(failed)?;
                if tools.read.len() as u64 != before + length {
                    return Err(failed(std::io::Error::other("it has changed while it was read")));
                }
                let (before, bytes) = tools.read.split_at(usize::try_from(before).unwrap_or_default());
                let mut crc = Hasher::new();
                crc.update(bytes);
                let size = bytes.len() as u64;
                Ok(Piece { bytes: deflate::part(before, bytes, self.is_last), crc, size, deflated: true })
            }
            (Part::Kept(last, kept, offset, length), _) => {
                let bytes = last.part(*offset, *length).to_vec();
                // What is known of the whole comes with its first part.
                let Content { crc, size, deflated } = kept.content();
                let (crc, size) = if self.is_first { (crc, size) } else { (0, 0) };
                Ok(Piece { bytes, crc: Hasher::new_with_initial_len(crc, size), size, deflated })
            }
        }
    }
}

/// Reads a file that had so many bytes when it was listed. Returns how many of the buffer are the file's.
fn read(path: &Path, size: u64, buffer: &mut Vec<u8>) -> io::Result<usize> {
    let size = usize::try_from(size).unwrap_or_default();
    let (mut file, mut room, mut all) = (File::open(path)?, size + 1, 0);
    loop {
        if buffer.len() < room {
            buffer.resize(room, 0);
        }
        let read = match file.read(&mut buffer[all..room]) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            read => read?,
        };
        all += read;
        // There was room for one more: this is the end, and no call has to find that out.
        if read == 0 || (read == size && all == size) {
            return Ok(all);
        }
        room = room.max(2 * all);
    }
}

/// Returns the parts of a length.
fn parts(length: u64) -> impl Iterator<Item = (u64, u64)> {
    (0..length.div_ceil(PART).max(1)).map(move |number| (number * PART, PART.min(length - number * PART)))
}

/// Lists the jobs of all entries, in their order.
fn jobs<'a>(folder: &Path, entries: &'a [Entry], known: Option<(&'a Last, &[Hashed])>) -> Vec<Job<'a>> {
    let mut jobs = Vec::with_capacity(entries.len());
    for (number, entry) in entries.iter().enumerate() {
        let kept = known.and_then(|(last, contents)| Some((last, last.find(&contents[number].sha256)?)));
        let parts: Vec<Part<'_>> = match (&entry.kind, kept) {
            (Kind::Link(_), _) => vec![Part::Link],
            (_, Some((last, kept))) => {
                let place = kept.place();
                let part = |(offset, length)| Part::Kept(last, kept, place.start + offset, length);
                parts(place.end - place.start).map(part).collect()
            }
            _ if entry.size < LARGE => vec![Part::Whole],
            _ => parts(entry.size).map(|(offset, length)| Part::Some(offset, length)).collect(),
        };
        let count = parts.len();
        let path = files::path(folder, entry);
        let job = |(part, what)| Job {
            entry,
            number,
            path: path.clone(),
            part: what,
            is_first: part == 0,
            is_last: part + 1 == count,
        };
        jobs.extend(parts.into_iter().enumerate().map(job));
    }
    jobs
}

impl Archive {
    /// Zips entries of a folder in their order. Times are the zip format's zero (1980-01-01), modes are 755 or
    /// 644, and nothing else of this machine gets in.
    pub(super) fn of_files(
        folder: &Path,
        entries: &[Entry],
        cache: Option<&Cache>,
        threads: usize,
    ) -> Result<Self, Error> {
        let threads = threads.clamp(1, THREADS);
        let (contents, last) = match cache {
            None => (None, None),
            Some(cache) => thread::scope(|scope| {
                let last = scope.spawn(|| cache.last(folder));
                let contents = digests(folder, entries, threads)?;
                Ok::<_, Error>((Some(contents), last.join().unwrap_or_default()))
            })?,
        };
        let tree = contents.as_ref().map(|contents| tree(entries, contents));
        if let Some(last) = last.as_ref().filter(|last| Some(last.tree) == tree) {
            let files = entries.iter().map(|entry| (entry.name.clone(), entry.size)).collect();
            return Ok(Self::new(last.zip.clone(), last.sha256, files));
        }
        let jobs = jobs(folder, entries, last.as_ref().zip(contents.as_deref()));
        let total: u64 = entries.iter().map(|entry| entry.size + 200 + 2 * entry.name.len() as u64).sum();
        let mut zip = Writer::new(usize::try_from(total.min(1 << 30)).unwrap_or_default());
        let mut kept: Vec<(Digest, Kept)> = Vec::new();
        let (mut open, mut crc, mut size) = (None::<Open>, Hasher::new(), 0);
        let mut sizes: Vec<u64> = Vec::with_capacity(entries.len());

        let tools = || Tools { deflate: Deflate::new(), read: Vec::new() };
        let work = |tools: &mut Tools, job: &Job<'_>| job.work(tools);
        let take = |job: &Job<'_>, piece: Result<Piece, Error>| {
            let piece = piece?;
            let entry = open.get_or_insert_with(|| zip.begin(&job.entry.name, job.entry.mode(), job.entry.size));
            zip.write(&piece.bytes);
            crc.combine(&piece.crc);
            size += piece.size;
            if job.is_last {
                let mut deflated = piece.deflated;
                if deflated && zip.written(entry) >= size && matches!(job.part, Part::Some(..)) {
                    // Only now it is known that it did not pay.
                    zip.rewind(entry);
                    if store(&mut zip, &job.path, size)? != crc.clone().finalize() {
                        return Err(Error::Changed(job.path.clone()));
                    }
                    deflated = false;
                }
                let content = Content { crc: std::mem::take(&mut crc).finalize(), size, deflated };
                let place = zip.place(entry);
                zip.end(entry, content);
                // What was hashed must be what was compressed, and a file of which parts were read one file.
                let hashed = contents.as_ref().map(|contents| &contents[job.number]);
                if hashed.is_some_and(|hashed| (hashed.crc, hashed.size) != (content.crc, content.size))
                    || (matches!(job.part, Part::Some(..)) && size_of(&job.path)? != size)
                {
                    return Err(Error::Changed(job.path.clone()));
                }
                if let (Some(hashed), false) = (hashed, matches!(job.part, Part::Link)) {
                    kept.push((hashed.sha256, Kept::new(place, content)));
                }
                sizes.push(size);
                (open, size) = (None, 0);
            }
            Ok::<(), Error>(())
        };
        in_order(threads, AHEAD, &jobs, Job::cost, tools, work, take)?;
        let (bytes, sha256) = zip.finish();
        if let (Some(cache), Some(tree)) = (cache, tree) {
            // A cache that cannot be written makes the next run slower, and nothing else.
            let _ = cache.keep(folder, &bytes, sha256, tree, kept);
        }
        let names = entries.iter().map(|entry| entry.name.clone());
        Ok(Self::new(bytes.into(), sha256, names.zip(sizes).collect()))
    }

    fn new(bytes: Bytes, sha256: Digest, mut files: Vec<(String, u64)>) -> Self {
        let (entries, unzipped) = (files.len(), files.iter().map(|(_, size)| size).sum());
        files.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        files.truncate(NAMED);
        Self { bytes, sha256, entries, unzipped, largest: files }
    }

    /// Takes a file as it is.
    pub(super) fn of_bytes(name: &str, bytes: Vec<u8>) -> Self {
        let (sha256, size) = (Digest::of(&bytes), bytes.len() as u64);
        Self::new(bytes.into(), sha256, vec![(name.to_owned(), size)])
    }

    /// Takes a zip as it is, after a look whether it is one.
    pub(super) fn of_zip(path: &Path) -> Result<Self, Error> {
        let bytes = fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        let broken = |source| Error::Zip { path: path.to_owned(), source };
        let mut zip = ZipArchive::new(Cursor::new(&bytes)).map_err(broken)?;
        let mut files = Vec::with_capacity(zip.len());
        for number in 0..zip.len() {
            let file = zip.by_index_raw(number).map_err(broken)?;
            files.push((file.name().map_err(broken)?.into_owned(), file.size()));
        }
        let sha256 = Digest::of(&bytes);
        Ok(Self::new(bytes.into(), sha256, files))
    }
}

fn size_of(path: &Path) -> Result<u64, Error> {
    let failed = |source| Error::Read { path: path.to_owned(), source };
    path.metadata().map(|metadata| metadata.len()).map_err(failed)
}

/// Writes a file without compression, piece by piece. Returns the CRC of what it wrote.
fn store(zip: &mut Writer, path: &Path, size: u64) -> Result<u32, Error> {
    let failed = |source| Error::Read { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(failed)?;
    let (mut piece, mut crc) = (Vec::new(), Hasher::new());
    for (_, length) in parts(size) {
        piece.clear();
        file.by_ref().take(length).read_to_end(&mut piece).map_err(failed)?;
        zip.write(&piece);
        crc.update(&piece);
    }
    Ok(crc.finalize())
}

/// Returns the digest of everything that a zip depends on: names, modes and contents.
fn tree(entries: &[Entry], contents: &[Hashed]) -> Digest {
    let mut text = String::with_capacity(entries.len() * 160);
    for (entry, content) in entries.iter().zip(contents) {
        let _ = writeln!(text, "{} {:o} {}\0", content.sha256, entry.mode(), entry.name);
    }
    Digest::of(text)
}

/// What a file contained when it was hashed.
#[derive(Debug, Clone, Copy)]
struct Hashed {
    sha256: Digest,
    crc: u32,
    size: u64,
}

/// Hashes what entries contain.
fn digests(folder: &Path, entries: &[Entry], threads: usize) -> Result<Vec<Hashed>, Error> {
    let mut digests = Vec::with_capacity(entries.len());
    let work = |buffer: &mut Vec<u8>, entry: &Entry| {
        if let Kind::Link(target) = &entry.kind {
            let (sha256, crc) = (Digest::of(target), crc32fast::hash(target.as_bytes()));
            return Ok(Hashed { sha256, crc, size: target.len() as u64 });
        }
        let path = files::path(folder, entry);
        hash(buffer, &path).map_err(|source| Error::Read { path, source })
    };
    let take = |_: &Entry, digest: Result<Hashed, Error>| digest.map(|digest| digests.push(digest));
    in_order(threads, usize::MAX, entries, |_| 0, Vec::new, work, take)?;
    Ok(digests)
}

/// Hashes a file.
fn hash(buffer: &mut Vec<u8>, path: &Path) -> std::io::Result<Hashed> {
    buffer.resize(256 << 10, 0);
    let (mut file, mut sha256, mut crc, mut size) = (File::open(path)?, Sha256::new(), Hasher::new(), 0);
    loop {
        let read = file.read(buffer)?;
        if read == 0 {
            let sha256 = Digest::from_bytes(sha256.finalize().into());
            return Ok(Hashed { sha256, crc: crc.finalize(), size });
        }
        sha256.update(&buffer[..read]);
        crc.update(&buffer[..read]);
        size += read as u64;
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::time::{Duration, SystemTime};

    use std::io::Write as _;

    use super::super::Packaging;
    use super::*;

    fn package(path: &Path) -> Result<Archive, Error> {
        Packaging::default().package(path, &[], &[])
    }

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
        let one = package(tree(false, 0o600, 0).path()).unwrap();
        let other = package(tree(true, 0o664, 1_000_000).path()).unwrap();
        assert_eq!(one.bytes, other.bytes);
        assert_eq!(one.entries, 5);
        // The bytes are a promise: a release that was made by another build of Tenantry is found again.
        insta::assert_snapshot!(one.sha256, @"dcb6be6d84ff903929e022d3cda198c427af6a027627f4e9f140c9c7396da7a1");
    }

    #[test]
    fn contents_modes_and_links_survive() {
        let archive = package(tree(false, 0o600, 0).path()).unwrap();
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
        let before = package(folder.path()).unwrap();
        fs::write(folder.path().join("index.js"), "other").unwrap();
        let after = package(folder.path()).unwrap();
        assert_ne!(before.sha256, after.sha256);
        let path = folder.path().join("a.zip");
        fs::write(&path, &after.bytes).unwrap();
        assert_eq!(package(&path).unwrap().sha256, after.sha256);
        fs::write(&path, "no zip").unwrap();
        assert!(matches!(package(&path), Err(Error::Zip { .. })));
    }

    /// A tree with small files, one that does not compress, and some that go in parts.
    fn mixed() -> tempfile::TempDir {
        let folder = tree(false, 0o600, 0);
        let mut random = fastrand::Rng::with_seed(7);
        let noise: Vec<u8> = (0..LARGE + 5).map(|_| random.u8(..)).collect();
        let text: Vec<u8> = (0..LARGE + 3 * PART / 2).map(|at| (at / 7 % 251) as u8).collect();
        fs::write(folder.path().join("noise"), &noise).unwrap();
        fs::write(folder.path().join("small-noise"), &noise[..1000]).unwrap();
        fs::write(folder.path().join("text"), &text).unwrap();
        fs::write(folder.path().join("empty"), b"").unwrap();
        folder
    }

    #[test]
    fn the_bytes_do_not_depend_on_threads_and_a_library_reads_them() {
        let folder = mixed();
        let entries = files::collect(folder.path(), &[], &[], &[]).unwrap();
        let one = Archive::of_files(folder.path(), &entries, None, 1).unwrap();
        for threads in [2, 5, 16] {
            let other = Archive::of_files(folder.path(), &entries, None, threads).unwrap();
            assert_eq!(one.bytes, other.bytes, "{threads} threads");
        }
        assert_eq!(one.sha256, Digest::of(&one.bytes));
        assert_eq!(one.largest[0], ("text".to_owned(), LARGE + 3 * PART / 2));
        let mut zip = ZipArchive::new(Cursor::new(&one.bytes)).unwrap();
        for entry in entries.iter().filter(|entry| !matches!(entry.kind, Kind::Link(_))) {
            let mut bytes = Vec::new();
            let mut file = zip.by_name(&entry.name).unwrap();
            let stored = file.compression() == zip::CompressionMethod::Stored;
            assert_eq!(stored, entry.name.contains("noise") || entry.name == "empty", "{}", entry.name);
            file.read_to_end(&mut bytes).unwrap();
            assert_eq!(bytes, fs::read(files::path(folder.path(), entry)).unwrap(), "{}", entry.name);
        }
    }

    #[test]
    fn a_file_is_read_whole_also_where_it_has_changed_since_it_was_listed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let content: Vec<u8> = (0..100_000).map(|number: u32| number.to_le_bytes()[0]).collect();
        fs::write(&path, &content).unwrap();
        let mut buffer = Vec::new();
        for size in [100_000, 0, 1, 99_999, 100_001, 1 << 20] {
            let all = read(&path, size, &mut buffer).unwrap();
            assert!(buffer[..all] == content, "{size}");
        }
        fs::write(&path, "").unwrap();
        assert_eq!(read(&path, 7, &mut buffer).unwrap(), 0);
    }

    #[test]
    fn a_cache_changes_nothing_but_the_work() {
        let (folder, kept) = (mixed(), tempfile::tempdir().unwrap());
        let cache = Cache::new(kept.path().join("cache"));
        let zip = |cache: Option<&Cache>| {
            let entries = files::collect(folder.path(), &[], &[], &[]).unwrap();
            Archive::of_files(folder.path(), &entries, cache, 2).unwrap()
        };
        let plain = zip(None);
        assert_eq!(zip(Some(&cache)).bytes, plain.bytes, "filled");
        assert_eq!(zip(Some(&cache)).bytes, plain.bytes, "used");
        // What is not changed comes from the cache: contents that are kept are not compressed again.
        fs::write(folder.path().join("index.js"), "another").unwrap();
        let entries = files::collect(folder.path(), &[], &[], &[]).unwrap();
        let contents = digests(folder.path(), &entries, 1).unwrap();
        let last = cache.last(folder.path()).unwrap();
        let jobs = jobs(folder.path(), &entries, Some((&last, &contents)));
        let fresh = jobs.iter().filter(|job| matches!(job.part, Part::Whole | Part::Some(..)));
        assert_eq!(fresh.map(|job| job.entry.name.as_str()).collect::<Vec<_>>(), ["index.js"]);
        assert_eq!(zip(Some(&cache)).bytes, zip(None).bytes, "one file changed");
        // A cache that is broken is not believed.
        let zips = fs::read_dir(kept.path().join("cache")).unwrap().map(|file| file.unwrap().path());
        let broken = zips.into_iter().find(|path| path.extension() == Some("zip".as_ref())).unwrap();
        let mut bytes = fs::read(&broken).unwrap();
        bytes[100] ^= 1;
        fs::write(&broken, bytes).unwrap();
        assert!(cache.last(folder.path()).is_none());
        assert_eq!(zip(Some(&cache)).bytes, zip(None).bytes, "broken");
    }
}
