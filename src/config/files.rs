//! What a project is read from: files, and a list of tenants that AWS may keep.

use std::path::PathBuf;

use super::project;
use super::schema::{Directory, Tenants};
use crate::domain::Region;
use crate::source::{Document, Problem, Problems};

/// The files of a project.
#[derive(Debug, Clone)]
pub struct Files {
    /// The configuration.
    pub config: PathBuf,
    /// The list of tenants, where it is in neither the configuration nor a file that it names.
    pub tenants: Option<Document>,
}

/// A list of tenants that AWS keeps.
#[derive(Debug, Clone)]
pub struct Kept {
    /// Where.
    pub directory: Directory,
    /// The region of the bucket, and so of a parameter.
    pub region: Region,
}

impl Files {
    /// A configuration that says where all else is.
    pub fn new(config: impl Into<PathBuf>) -> Self {
        Self { config: config.into(), tenants: None }
    }

    /// Returns where AWS keeps the list of tenants, if it does.
    ///
    /// # Errors
    ///
    /// Says why the configuration cannot be read.
    pub fn kept(&self) -> Result<Option<Kept>, Problems> {
        let (document, file) = project::read_file(&self.config)?;
        let Tenants::Kept(directory) = file.tenants else { return Ok(None) };
        let store = project::store(&file.store, &document);
        let store = store.map_err(|problem| Problems::new(std::slice::from_ref(&document), [problem]))?;
        Ok(Some(Kept { directory, region: store.region }))
    }

    /// Returns the same with the list of tenants that a file has.
    ///
    /// # Errors
    ///
    /// Says why it cannot be read.
    pub fn with_tenants(self, file: &std::path::Path) -> Result<Self, Problems> {
        let document = Document::read(file, "the tenants").map_err(|problem: Problem| Problems::new(&[], [problem]))?;
        Ok(Self { tenants: Some(document), ..self })
    }
}
