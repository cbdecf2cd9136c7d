//! What another machine needs of a project in order to execute what is in the store: the configuration and the list of
//! tenants as they were read here, and of an assembly what says which stacks it has. Nothing that is packaged.

use std::path::{Component, Path};
use std::{fs, io};

use super::project::{CONFIG, Project, is_file_name};

/// The name of the list of tenants, where it has a file.
const TENANTS: &str = "tenantry-tenants.yaml";

/// Files by their names below one folder.
#[derive(Debug)]
pub struct Carried {
    /// The files.
    pub files: Vec<(String, Vec<u8>)>,
    /// Which of them is the configuration.
    pub config: String,
    /// Which of them is the list of tenants; none where the configuration or AWS has that.
    pub tenants: Option<String>,
}

impl Project {
    /// Returns what another machine needs.
    ///
    /// # Errors
    ///
    /// Says what cannot be carried.
    pub fn carried(&self) -> io::Result<Carried> {
        let config = self.documents[CONFIG].path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut files = vec![(config.clone(), self.documents[CONFIG].text.clone().into_bytes())];
        let tenants = self.tenants_document();
        // A list that is a parameter's value is nobody's to keep elsewhere; machines read it themselves.
        let tenants = (tenants != CONFIG && !self.documents[tenants].is_private).then(|| {
            files.push((TENANTS.to_owned(), self.documents[tenants].text.clone().into_bytes()));
            TENANTS.to_owned()
        });
        let inside = Path::new(&self.file.template);
        if self.cdk_stack.is_some() {
            if !inside.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
                let why = format!("{} is not below the configuration's folder", inside.display());
                return Err(io::Error::other(why));
            }
            descriptions(&self.root.join(inside), &self.file.template, &mut files)?;
        } else if !is_file_name(inside) {
            let why = "a template by whose name it is not known to be one cannot be left out: call it .yaml or .json";
            return Err(io::Error::other(format!("{}: {why}", self.file.template)));
        }
        Ok(Carried { files, config, tenants })
    }
}

/// Adds the JSON files of an assembly and of those within it, without assets.
fn descriptions(folder: &Path, name: &str, files: &mut Vec<(String, Vec<u8>)>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let file = entry.file_name().to_string_lossy().into_owned();
        let inner = format!("{name}/{file}");
        if entry.file_type()?.is_dir() && file.starts_with("assembly-") {
            descriptions(&entry.path(), &inner, files)?;
        } else if entry.path().extension().is_some_and(|extension| extension == "json") && !file.starts_with("asset.") {
            files.push((inner, fs::read(entry.path())?));
        }
    }
    Ok(())
}
