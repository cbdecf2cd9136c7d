//! Which files of a folder are packaged, and in which order.

use std::ffi::OsStr;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::mpsc;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use ignore::{DirEntry, WalkBuilder, WalkState};

use super::Error;

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
    entries_of(folder, false, leave_out, excluded, |name| include.is_empty() || included.is_match(name))
}

/// Returns all files of a folder with links followed, ordered by the bytes of their names.
pub fn follow(folder: &Path, leave_out: &[PathBuf]) -> Result<Vec<Entry>, Error> {
    entries_of(folder, true, leave_out, GlobSet::empty(), |_| true)
}

/// Returns what is in a folder and `wants` takes, ordered by the bytes of the names. What is left out or excluded is not looked
/// into. The folder itself may be a link. All cores walk.
fn entries_of(
    folder: &Path,
    follows: bool,
    leave_out: &[PathBuf],
    excluded: GlobSet,
    wants: impl Fn(&str) -> bool + Sync,
) -> Result<Vec<Entry>, Error> {
    if leave_out.iter().any(|other| same_place(other, folder)) {
        return Err(Error::Empty(folder.to_owned()));
    }
    // A walk of `-` would be one of what stands in the standard input.
    let root = if folder == Path::new("-") { Path::new("./-") } else { folder };
    let (base, leave_out) = (root.to_owned(), leave_out.to_owned());
    let keeps = move |entry: &DirEntry| {
        let (path, is_link) = (entry.path(), follows && entry.path_is_symlink());
        !leave_out.iter().any(|other| same(other, path) || (is_link && same_place(other, path)))
            && name(&base, path).map_or(true, |name| !excluded.is_match(name))
    };
    let (sender, receiver) = mpsc::channel();
    let mut walk = WalkBuilder::new(root);
    walk.standard_filters(false).follow_links(follows).threads(super::cores());
    walk.filter_entry(keeps).build_parallel().run(|| {
        let (sender, wants) = (sender.clone(), &wants);
        Box::new(move |found| {
            // Nobody has stopped listening.
            let _ = entry_of(root, found, wants).map(|entry| sender.send(entry));
            WalkState::Continue
        })
    });
    drop(sender);
    let mut found: Vec<(String, Result<Entry, Error>)> = receiver.into_iter().collect();
    if found.is_empty() {
        return Err(Error::Empty(folder.to_owned()));
    }
    // Of several errors always the same one is told.
    found.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    found.into_iter().map(|(_, entry)| entry).collect()
}

/// Returns what a walk came to, with its place in the order; none for a folder, and for what nobody wants.
fn entry_of(
    folder: &Path,
    found: Result<DirEntry, ignore::Error>,
    wants: impl Fn(&str) -> bool,
) -> Option<(String, Result<Entry, Error>)> {
    let at = |path: &Path| path.strip_prefix(folder).unwrap_or(path).to_string_lossy().into_owned();
    let entry = match found {
        Ok(entry) if entry.file_type().is_some_and(|kind| kind.is_dir()) => return None,
        Ok(entry) => entry,
        Err(error) => {
            let path = path_of(&error).unwrap_or(folder).to_owned();
            return Some((at(&path), Err(unread(path, error))));
        }
    };
    let name = match name(folder, entry.path()) {
        Ok(name) => name,
        Err(error) => return Some((at(entry.path()), Err(error))),
    };
    if !wants(&name) {
        return None;
    }
    let place = name.clone();
    Some((place, kind(folder, &entry, &name).map(|(kind, size)| Entry { name, kind, size })))
}

fn unread(path: PathBuf, error: ignore::Error) -> Error {
    let text = error.to_string();
    Error::Read { path, source: error.into_io_error().unwrap_or_else(|| io::Error::other(text)) }
}

/// Returns where a walk failed, if it says so.
fn path_of(error: &ignore::Error) -> Option<&Path> {
    match error {
        ignore::Error::WithPath { path, .. } => Some(path),
        ignore::Error::Loop { child, .. } => Some(child),
        ignore::Error::WithDepth { err, .. } => path_of(err),
        _ => None,
    }
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
    let file_type = entry.file_type().ok_or_else(|| Error::Special(path.to_owned()))?;
    if file_type.is_symlink() {
        let target = std::fs::read_link(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        if !stays_within(Path::new(name), &target) {
            return Err(Error::Escapes { path: folder.join(name), target });
        }
        let text = target.to_str().ok_or_else(|| Error::Name(target.clone()))?;
        return Ok((Kind::Link(text.to_owned()), text.len() as u64));
    }
    if !file_type.is_file() {
        return Err(Error::Special(path.to_owned()));
    }
    let metadata = entry.metadata().map_err(|error| unread(path.to_owned(), error))?;
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

    #[cfg(unix)]
    #[test]
    fn links_are_followed_where_the_aws_cli_follows_them_and_never_for_ever() {
        use std::os::unix::fs::symlink;
        let folder = tree(&["a/one", "b/two", "secret"]);
        let found = |leave_out: &[PathBuf]| {
            follow(folder.path(), leave_out).map(|all| all.into_iter().map(|entry| entry.name).collect::<Vec<_>>())
        };
        symlink("../b", folder.path().join("a/b")).unwrap();
        symlink("../secret", folder.path().join("a/link")).unwrap();
        assert_eq!(found(&[]).unwrap(), ["a/b/two", "a/link", "a/one", "b/two", "secret"]);
        assert_eq!(found(&[folder.path().join("secret")]).unwrap(), ["a/b/two", "a/one", "b/two"]);
        // Of several faults the same one is told each time.
        symlink("nowhere", folder.path().join("b/broken")).unwrap();
        symlink("../a", folder.path().join("b/loop")).unwrap();
        for _ in 0..20 {
            let told = found(&[]).unwrap_err().to_string();
            let place = folder.path().join("a/b/broken");
            assert!(told.starts_with(&format!("cannot read {}: ", place.display())), "{told}");
        }
        fs::remove_file(folder.path().join("b/broken")).unwrap();
        let told = found(&[]).unwrap_err().to_string();
        assert!(told.contains("a/b/loop") && told.contains("loop"), "{told}");
    }

    #[cfg(unix)]
    #[test]
    fn the_folder_itself_may_be_a_link_and_is_not_packaged_where_it_is_left_out() {
        let folder = tree(&["build/.hidden", "build/.gitignore", "build/ignored"]);
        fs::write(folder.path().join("build/.gitignore"), "ignored").unwrap();
        std::os::unix::fs::symlink("build", folder.path().join("dist")).unwrap();
        let (build, dist) = (folder.path().join("build"), folder.path().join("dist"));
        assert_eq!(names(&dist, &[], &[]), [".gitignore", ".hidden", "ignored"]);
        for path in [&build, &dist] {
            let left_out = [build.clone()];
            assert!(matches!(collect(path, &[], &[], &left_out), Err(Error::Empty(_))));
            assert!(matches!(follow(path, &left_out), Err(Error::Empty(_))));
        }
    }
}
