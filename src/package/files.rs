//! Which files of a folder are packaged, and in which order.

use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use walkdir::{DirEntry, WalkDir};

use super::Error;
use super::ordered::in_order;

/// A file or a link within a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its path within the folder, with slashes.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// How many bytes it has.
    pub size: u64,
}

impl Entry {
    /// Returns its mode in a zip: nothing of this machine's umask gets in.
    pub fn mode(&self) -> u32 {
        match self.kind {
            Kind::File => 0o100_644,
            Kind::Executable => 0o100_755,
            Kind::Link(_) => 0o120_777,
        }
    }
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A file that is not executable.
    File,
    /// A file that somebody may execute.
    Executable,
    /// A symbolic link, with what it says.
    Link(String),
}

/// Returns the entries of a folder that the globs leave, ordered by the bytes of their names.
///
/// Links are kept as links and never followed; one that leads out of the folder is refused, since what is
/// behind it on this machine is nobody's intention. An excluded folder is not looked into.
pub fn collect(
    folder: &Path,
    include: &[String],
    exclude: &[String],
    leave_out: &[PathBuf],
) -> Result<Vec<Entry>, Error> {
    let (included, excluded) = (globs(include)?, globs(exclude)?);
    let is_left_out = |path: &Path| leave_out.iter().any(|other| same(other, path));
    let keeps = |path: &Path| {
        !is_left_out(path) && name(folder, path).map_or(true, |name| name.is_empty() || !excluded.is_match(&name))
    };

    let walk = WalkDir::new(folder).into_iter().filter_entry(|entry| keeps(entry.path()));
    entries_of(folder, walk, |name| include.is_empty() || included.is_match(name))
}

/// Returns all files of a folder with links followed, ordered by the bytes of their names.
pub fn follow(folder: &Path, leave_out: &[PathBuf]) -> Result<Vec<Entry>, Error> {
    let is_left_out = |entry: &DirEntry| {
        leave_out
            .iter()
            .any(|path| same(path, entry.path()) || (entry.path_is_symlink() && same_place(path, entry.path())))
    };
    let walk = WalkDir::new(folder).follow_links(true).into_iter();
    entries_of(folder, walk.filter_entry(|entry| !is_left_out(entry)), |_| true)
}

/// Returns what a walk finds and `wants` takes, ordered by the bytes of the names. All cores look at the files.
fn entries_of(
    folder: &Path,
    walk: impl Iterator<Item = walkdir::Result<DirEntry>>,
    wants: impl Fn(&str) -> bool,
) -> Result<Vec<Entry>, Error> {
    let mut found = Vec::new();
    for entry in walk {
        let entry = entry
            .map_err(|error| Error::Read { path: error.path().unwrap_or(folder).to_owned(), source: error.into() })?;
        if !entry.file_type().is_dir() {
            let name = name(folder, entry.path())?;
            if wants(&name) {
                found.push((name, entry));
            }
        }
    }
    if found.is_empty() {
        return Err(Error::Empty(folder.to_owned()));
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    let mut entries = Vec::with_capacity(found.len());
    let work = |(): &mut (), (name, entry): &(String, DirEntry)| {
        kind(folder, entry, name).map(|(kind, size)| Entry { name: name.clone(), kind, size })
    };
    let take = |_: &(String, DirEntry), entry: Result<Entry, Error>| entry.map(|entry| entries.push(entry));
    in_order(super::cores(), usize::MAX, &found, |_| 0, || (), work, take)?;
    Ok(entries)
}

/// Tells whether two paths are the same place. Names differ mostly, which costs no look.
fn same(one: &Path, other: &Path) -> bool {
    one.file_name() == other.file_name() && same_place(one, other)
}

fn same_place(one: &Path, other: &Path) -> bool {
    one.canonicalize().ok().is_some_and(|one| Some(one) == other.canonicalize().ok())
}

/// Returns a file as the only entry of its folder.
pub fn single(path: &Path) -> Result<Entry, Error> {
    let name = path.file_name().and_then(OsStr::to_str).ok_or_else(|| Error::Name(path.to_owned()))?;
    let metadata = path.metadata().map_err(|source| Error::Read { path: path.to_owned(), source })?;
    let kind = if is_executable(&metadata) { Kind::Executable } else { Kind::File };
    Ok(Entry { name: name.to_owned(), kind, size: metadata.len() })
}

/// Returns a path within a folder, with slashes.
fn name(folder: &Path, path: &Path) -> Result<String, Error> {
    let inner = path.strip_prefix(folder).unwrap_or(path);
    let name = inner.to_str().ok_or_else(|| Error::Name(path.to_owned()))?;
    Ok(if std::path::MAIN_SEPARATOR == '/' { name.to_owned() } else { name.replace(std::path::MAIN_SEPARATOR, "/") })
}

fn globs(patterns: &[String]) -> Result<GlobSet, Error> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        set.add(GlobBuilder::new(pattern.trim_end_matches('/')).literal_separator(true).build()?);
    }
    Ok(set.build()?)
}

fn kind(folder: &Path, entry: &DirEntry, name: &str) -> Result<(Kind, u64), Error> {
    let path = entry.path();
    let read = |source: std::io::Error| Error::Read { path: path.to_owned(), source };
    if entry.file_type().is_symlink() {
        let target = std::fs::read_link(path).map_err(read)?;
        if !stays_within(Path::new(name), &target) {
            return Err(Error::Escapes { path: folder.join(name), target });
        }
        let text = target.to_str().ok_or_else(|| Error::Name(target.clone()))?;
        return Ok((Kind::Link(text.to_owned()), text.len() as u64));
    }
    if !entry.file_type().is_file() {
        return Err(Error::Special(path.to_owned()));
    }
    let metadata = entry.metadata().map_err(|error| read(error.into()))?;
    Ok((if is_executable(&metadata) { Kind::Executable } else { Kind::File }, metadata.len()))
}

#[cfg(unix)]
fn is_executable(metadata: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    metadata.permissions().mode() & 0o111 != 0
}

#[cfg(not(unix))]
fn is_executable(_: &std::fs::Metadata) -> bool {
    false
}

/// Tells whether a link at `link` to `target` leads to a place below the root that `link` is relative to.
fn stays_within(link: &Path, target: &Path) -> bool {
    let mut here: Vec<&OsStr> =
        link.parent().into_iter().flat_map(Path::components).map(Component::as_os_str).collect();
    for part in target.components() {
        match part {
            Component::Normal(name) => here.push(name),
            Component::CurDir => {}
            Component::ParentDir => {
                if here.pop().is_none() {
                    return false;
                }
            }
            Component::RootDir | Component::Prefix(_) => return false,
        }
    }
    true
}

/// Returns the path of an entry on this machine.
pub fn path(folder: &Path, entry: &Entry) -> PathBuf {
    folder.join(&entry.name)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        folder
    }

    fn names(folder: &Path, include: &[&str], exclude: &[&str]) -> Vec<String> {
        let owned = |globs: &[&str]| globs.iter().map(|glob| (*glob).to_owned()).collect::<Vec<_>>();
        collect(folder, &owned(include), &owned(exclude), &[]).unwrap().into_iter().map(|entry| entry.name).collect()
    }

    #[test]
    fn globs_choose_and_the_order_is_by_name() {
        let folder = tree(&["b.js", "a.js", "a/z.js", "a/z.test.js", "node_modules/x/y.js", "read.md"]);
        assert_eq!(
            names(folder.path(), &[], &[]),
            ["a.js", "a/z.js", "a/z.test.js", "b.js", "node_modules/x/y.js", "read.md"]
        );
        assert_eq!(names(folder.path(), &["**/*.js"], &["**/*.test.js", "node_modules"]), ["a.js", "a/z.js", "b.js"]);
        assert_eq!(names(folder.path(), &["*.js"], &[]), ["a.js", "b.js"]);
        assert!(matches!(collect(folder.path(), &["*.py".into()], &[], &[]), Err(Error::Empty(_))));
    }

    #[cfg(unix)]
    #[test]
    fn links_are_kept_within_and_refused_beyond() {
        use std::os::unix::fs::symlink;
        let folder = tree(&["a/real.js"]);
        symlink("real.js", folder.path().join("a/link.js")).unwrap();
        symlink("a", folder.path().join("folder")).unwrap();
        let entries = collect(folder.path(), &[], &[], &[]).unwrap();
        assert_eq!(entries[0], Entry { name: "a/link.js".into(), kind: Kind::Link("real.js".into()), size: 7 });
        assert_eq!(entries[2], Entry { name: "folder".into(), kind: Kind::Link("a".into()), size: 1 });
        for beyond in ["../../etc/passwd", "/etc/passwd", "../a/../../x"] {
            let link = folder.path().join("a/bad");
            symlink(beyond, &link).unwrap();
            assert!(matches!(collect(folder.path(), &[], &[], &[]), Err(Error::Escapes { .. })), "{beyond}");
            fs::remove_file(link).unwrap();
        }
    }
}
