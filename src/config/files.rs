//! What a project is read from: files, and a list of tenants that AWS may keep.

use std::path::{Path, PathBuf};

use super::project;
use super::schema::{Directory, Tenants};
use crate::domain::{AccountId, Region};
use crate::source::{Document, Problem, Problems};

/// The files of a project.
#[derive(Debug, Clone)]
pub struct Files {
    /// The configuration.
    pub config: PathBuf,
    /// The list of tenants, where it is in neither the configuration nor a file that it names.
    pub tenants: Option<Document>,
    /// Whether a release can be made of them: then the template and all that is packaged have to be there. Otherwise a release
    /// that is in the store has all of it.
    pub are_source: bool,
}

/// A list of tenants that AWS keeps.
#[derive(Debug, Clone)]
pub struct Kept {
    /// Where.
    pub directory: Directory,
    /// The region of the bucket, and so of a parameter.
    pub region: Region,
    /// The tooling account, which is no tenant's.
    pub account: AccountId,
}

impl Files {
    /// A configuration that says where all else is.
    pub fn new(config: impl Into<PathBuf>) -> Self {
        Self { config: config.into(), tenants: None, are_source: true }
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
        Ok(Some(Kept { directory, region: store.region, account: store.account }))
    }

    /// Returns the same with a list of those tenants that stages name: for what is about the template alone, and asks nobody
    /// who the tenants are.
    ///
    /// # Errors
    ///
    /// Says why the configuration cannot be read.
    pub fn with_nobody(self) -> Result<Self, Problems> {
        let (_, file) = project::read_file(&self.config)?;
        let named = file.stages.values().flat_map(|stage| stage.tenants.iter().flatten());
        let line = |name| format!("- {}\n", serde_json::json!({ "name": name, "account": "000000000000" }));
        let list = Document::new(Path::new("the stages"), named.map(line).collect());
        Ok(Self { tenants: Some(list), ..self })
    }

    /// Returns the same with the list of tenants that a file has.
    ///
    /// # Errors
    ///
    /// Says why it cannot be read.
    pub fn with_tenants(self, file: &Path) -> Result<Self, Problems> {
        let document = Document::read(file, "the tenants").map_err(|problem: Problem| Problems::new(&[], [problem]))?;
        Ok(Self { tenants: Some(document), ..self })
    }
}
