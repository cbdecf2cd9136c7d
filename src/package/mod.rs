//! Folders to zips: the same bytes whatever the files' times, order or owner, and whatever the umask.

mod archive;
mod files;

use std::path::{Path, PathBuf};

pub use archive::Archive;

/// Why an artifact cannot be packaged.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A glob is not one.
    #[error("not a glob: {0}")]
    Glob(#[from] globset::Error),
    /// A symbolic link leads out of the tree.
    #[error("{} is a symbolic link to {}, which is outside of the artifact", path.display(), target.display())]
    Escapes {
        /// The link.
        path: PathBuf,
        /// Where it leads.
        target: PathBuf,
    },
    /// Neither a file nor a folder nor a link.
    #[error("{} is neither a file, a folder nor a symbolic link", .0.display())]
    Special(PathBuf),
    /// A name that a zip cannot hold.
    #[error("{} has a name that is not UTF-8", .0.display())]
    Name(PathBuf),
    /// Nothing is left to package.
    #[error("{} has no file that `include` takes and `exclude` leaves", .0.display())]
    Empty(PathBuf),
    /// The zip itself is broken or cannot be written.
    #[error("{}: {source}", path.display())]
    Zip {
        /// The folder or zip.
        path: PathBuf,
        /// What is wrong.
        source: zip::result::ZipError,
    },
}

/// Returns how many files of a folder would be packaged.
///
/// # Errors
///
/// Returns what cannot be packaged, an empty folder included.
pub fn entries(folder: &Path, include: &[String], exclude: &[String]) -> Result<usize, Error> {
    files::collect(folder, include, exclude).map(|entries| entries.len())
}

/// Packages a folder, or takes a zip as it is.
///
/// # Errors
///
/// Returns what cannot be packaged; nothing is written anywhere.
pub fn package(path: &Path, include: &[String], exclude: &[String]) -> Result<Archive, Error> {
    if path.is_dir() {
        Archive::of_files(path, &files::collect(path, include, exclude)?)
    } else {
        Archive::of_zip(path)
    }
}
