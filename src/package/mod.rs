//! Folders to zips: the same bytes whatever the files' times, order or owner, and whatever the umask.

mod archive;
pub mod assembly;
mod cache;
mod deflate;
pub mod explain;
mod files;
mod locate;
mod ordered;
pub mod properties;
mod templates;
mod writer;

use std::path::{Path, PathBuf};

use crate::source::Document;
pub use archive::Archive;
pub use cache::Cache;
pub use templates::{Object, Packed, Places, Sources, is_json};

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
    /// More than Lambda unzips.
    #[error("{} {}", path.display(), beyond_lambda(archive).unwrap_or_default())]
    TooLarge {
        /// What was packaged.
        path: PathBuf,
        /// What came of it.
        archive: Box<Archive>,
    },
    /// A template that is not YAML.
    #[error("{}: {_1}", .0.display())]
    Template(PathBuf, String),
    /// What was packaged has changed while it was.
    #[error("{} has changed while it was packaged", .0.display())]
    Changed(PathBuf),
    /// A value that cannot be put in the place of another.
    #[error("{}: {_0} cannot be written where it stands", .1.display())]
    Unwritable(String, PathBuf),
    /// The zip itself is broken or cannot be written.
    #[error("{}: {source}", path.display())]
    Zip {
        /// The folder or zip.
        path: PathBuf,
        /// What is wrong.
        source: zip::result::ZipError,
    },
}

/// Lambda's limits on code and layers: unzipped, and zipped where it is sent to Lambda itself and not by way of S3.
/// Source: <https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html>
const UNZIPPED: u64 = 250 << 20;
const DIRECT: u64 = 50 << 20;

/// Says which of Lambda's limits an artifact is beyond, if it is beyond one, and what is large in it.
pub fn beyond_lambda(archive: &Archive) -> Option<String> {
    let zipped = archive.bytes.len() as u64;
    let what = if archive.unzipped > UNZIPPED {
        format!("has {} MB unzipped, and Lambda takes 250 MB", archive.unzipped >> 20)
    } else if zipped > DIRECT {
        format!("has {} MB zipped, which Lambda takes from S3 alone", zipped >> 20)
    } else {
        return None;
    };
    Some(format!("{what}; the largest: {}", largest(archive)))
}

fn largest(archive: &Archive) -> String {
    let named = archive.largest.iter().map(|(name, size)| format!("{name} ({} MB)", size >> 20));
    named.collect::<Vec<_>>().join(", ")
}

/// Returns how many threads work at a time.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Returns how many files of a folder would be packaged.
///
/// # Errors
///
/// Returns what cannot be packaged, an empty folder included.
pub fn entries(folder: &Path, include: &[String], exclude: &[String]) -> Result<usize, Error> {
    files::collect(folder, include, exclude, &[]).map(|entries| entries.len())
}

/// Where a template comes from.
#[derive(Debug)]
pub enum Input {
    /// A template in a file, with everything local that it names.
    Template(Sources),
    /// A stack of a CDK assembly, with its template.
    Stack(Box<assembly::Stack>, Box<Document>),
}

impl Input {
    /// Packages what the template names, and rewrites the template.
    ///
    /// # Errors
    ///
    /// Returns what cannot be packaged.
    pub fn pack(&self, packaging: &Packaging, places: &Places<'_>) -> Result<Packed, Error> {
        match self {
            Self::Template(sources) => sources.pack(packaging, places),
            Self::Stack(stack, document) => stack.pack(document, packaging, places),
        }
    }
}

/// How folders are packaged.
#[derive(Debug, Clone, Default)]
pub struct Packaging {
    /// What was compressed before, if it is kept.
    pub cache: Option<Cache>,
    /// What is in no artifact, although it may lie in its folder: the configuration, and the tenants, who have secrets.
    pub leave_out: Vec<PathBuf>,
    /// How many threads compress; as many as there are cores where none is given. The bytes do not depend on it.
    pub threads: Option<usize>,
}

impl Packaging {
    /// Packages a folder, or takes a zip as it is.
    ///
    /// # Errors
    ///
    /// Returns what cannot be packaged; nothing is written anywhere but into the cache.
    pub fn package(&self, path: &Path, include: &[String], exclude: &[String]) -> Result<Archive, Error> {
        if path.is_dir() {
            self.zip(path, &files::collect(path, include, exclude, &self.left_out())?)
        } else {
            Archive::of_zip(path)
        }
    }

    fn left_out(&self) -> Vec<PathBuf> {
        let cache = self.cache.iter().map(|cache| cache.folder().to_owned());
        self.leave_out.iter().cloned().chain(cache).collect()
    }

    /// Packages all of a folder that a template names. Links are followed, as the AWS CLI follows them.
    fn tree(&self, folder: &Path) -> Result<Archive, Error> {
        self.zip(folder, &files::follow(folder, &self.left_out())?)
    }

    fn zip(&self, folder: &Path, entries: &[files::Entry]) -> Result<Archive, Error> {
        Archive::of_files(folder, entries, self.cache.as_ref(), self.threads.unwrap_or_else(cores))
    }
}

/// Takes a zip as it is, and zips any other file.
fn zip_of(path: &Path) -> Result<Archive, Error> {
    match Archive::of_zip(path) {
        Err(Error::Zip { .. }) => {
            let folder = path.parent().unwrap_or(Path::new(""));
            Archive::of_files(folder, &[files::single(path)?], None, 1)
        }
        other => other,
    }
}
