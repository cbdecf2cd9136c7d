//! A CDK cloud assembly, as `cdk synth` writes it: its stacks, and their file assets brought into our store, so that no
//! account needs `cdk bootstrap`.
//!
//! Source: <https://github.com/aws/aws-cdk-cli/tree/main/packages/%40aws-cdk/cloud-assembly-schema>, revision 55.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use aho_corasick::{AhoCorasick, MatchKind};
use serde::Deserialize;

use super::templates::{Object, Packed, Places};
use super::{Archive, Error, Packaging};
use crate::source::edit::{self, Edit, Value};
use crate::source::yaml::{Id, Kind, Style, Tree};
use crate::source::{Document, Problem};

#[derive(Deserialize)]
struct Manifest {
    #[serde(default)]
    artifacts: BTreeMap<String, Artifact>,
    #[serde(default)]
    missing: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct Artifact {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    environment: String,
    #[serde(default)]
    properties: Properties,
    #[serde(default)]
    dependencies: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Properties {
    template_file: Option<String>,
    stack_name: Option<String>,
    tags: BTreeMap<String, String>,
    file: Option<String>,
    directory_name: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Assets {
    #[serde(default)]
    files: BTreeMap<String, FileAsset>,
    #[serde(default)]
    docker_images: BTreeMap<String, DockerAsset>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FileAsset {
    display_name: Option<String>,
    source: FileSource,
    destinations: BTreeMap<String, Destination>,
}

#[derive(Deserialize)]
struct FileSource {
    path: Option<String>,
    packaging: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Destination {
    bucket_name: String,
    object_key: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DockerAsset {
    display_name: Option<String>,
}

/// A stack of an assembly.
#[derive(Debug, Clone)]
pub struct Stack {
    /// Its name in the assembly.
    pub id: String,
    /// The name that the CDK would give the stack.
    pub name: String,
    /// Its template.
    pub template: PathBuf,
    /// The tags that it asks for.
    pub tags: BTreeMap<String, String>,
    /// The account and region that it was made for, where it is one only.
    account: Option<String>,
    /// Stacks that must be there before.
    after: BTreeSet<String>,
    assets: Vec<Asset>,
    images: Vec<String>,
}

/// A file or folder that a template names by its key in the bootstrap bucket.
#[derive(Debug, Clone)]
struct Asset {
    name: String,
    path: Option<PathBuf>,
    zipped: bool,
    places: Vec<(String, String)>,
}

/// The parameter and the rule by which a template asks for `cdk bootstrap`.
const BOOTSTRAP: [[&str; 2]; 2] = [["Parameters", "BootstrapVersion"], ["Rules", "CheckBootstrapVersion"]];

/// Returns the stacks of an assembly, those of its stages too, each after those that it depends on.
///
/// # Errors
///
/// Says why the folder is not an assembly that can be released.
pub fn stacks(folder: &Path) -> Result<Vec<Stack>, Problem> {
    let mut found = Vec::new();
    read(folder, &mut found)?;
    if found.is_empty() {
        return Err(Problem::new(format!("{} has no stack", folder.display())));
    }
    let mut ordered: Vec<Stack> = Vec::new();
    while !found.is_empty() {
        let waits = |stack: &Stack| found.iter().any(|other| other.id != stack.id && stack.after.contains(&other.id));
        let Some(next) = found.iter().position(|stack| !waits(stack)) else {
            let names: Vec<&str> = found.iter().map(|stack| stack.id.as_str()).collect();
            return Err(Problem::new(format!("stacks depend on each other in a circle: {}", names.join(", "))));
        };
        ordered.push(found.remove(next));
    }
    Ok(ordered)
}

fn json<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<T, Problem> {
    let text = fs::read(path).map_err(|error| Problem::new(format!("cannot read {}: {error}", path.display())));
    serde_json::from_slice(&text?)
        .map_err(|error| Problem::new(format!("{} is not what the CDK writes: {error}", path.display())))
}

fn read(folder: &Path, stacks: &mut Vec<Stack>) -> Result<(), Problem> {
    let path = folder.join("manifest.json");
    if !path.is_file() {
        let problem = Problem::new(format!("{} is a folder without manifest.json", folder.display()));
        return Err(problem.hint("name a template, or the folder that `cdk synth` writes, as cdk.out"));
    }
    let manifest: Manifest = json(&path)?;
    if !manifest.missing.is_empty() {
        let problem = Problem::new(format!("{} was written before all lookups were done", path.display()));
        return Err(problem.hint("run `cdk synth` with credentials once, and keep cdk.context.json"));
    }
    for (id, artifact) in &manifest.artifacts {
        let properties = &artifact.properties;
        match (artifact.kind.as_str(), &properties.template_file, &properties.directory_name) {
            ("aws:cloudformation:stack", Some(template), _) => {
                let mut stack = Stack {
                    id: id.clone(),
                    name: properties.stack_name.clone().unwrap_or_else(|| id.clone()),
                    template: folder.join(template),
                    tags: properties.tags.clone(),
                    account: account(&artifact.environment),
                    after: BTreeSet::new(),
                    assets: Vec::new(),
                    images: Vec::new(),
                };
                for name in &artifact.dependencies {
                    match manifest.artifacts.get(name).map(|other| (other.kind.as_str(), &other.properties.file)) {
                        Some(("cdk:asset-manifest", Some(file))) => stack.add_assets(&folder.join(file))?,
                        Some(("aws:cloudformation:stack", _)) => _ = stack.after.insert(name.clone()),
                        _ => {}
                    }
                }
                stacks.push(stack);
            }
            ("cdk:cloud-assembly", _, Some(inner)) => read(&folder.join(inner), stacks)?,
            // The construct tree and reports.
            _ => {}
        }
    }
    Ok(())
}

/// Reads the account of `aws://ACCOUNT/REGION`, if it is one.
fn account(environment: &str) -> Option<String> {
    let account = environment.strip_prefix("aws://")?.split('/').next()?;
    account.chars().all(|c| c.is_ascii_digit()).then(|| account.to_owned())
}

impl Stack {
    fn add_assets(&mut self, path: &Path) -> Result<(), Problem> {
        let folder = path.parent().unwrap_or(Path::new(""));
        let assets: Assets = json(path)?;
        for (id, FileAsset { display_name, source, destinations }) in assets.files {
            let path = source.path.map(|path| folder.join(path));
            // The stack's own template is released as such.
            if path.as_ref() == Some(&self.template) {
                continue;
            }
            let places = destinations.into_values().map(|place| (place.bucket_name, place.object_key)).collect();
            let zipped = source.packaging.as_deref() == Some("zip");
            self.assets.push(Asset { name: display_name.unwrap_or(id), path, zipped, places });
        }
        self.images.extend(
            assets.docker_images.into_iter().map(|(id, DockerAsset { display_name })| display_name.unwrap_or(id)),
        );
        Ok(())
    }

    /// Says what keeps the stack from being released to other accounts; `document` is its template.
    pub fn problems(&self, document: &Document) -> Vec<Problem> {
        let mut problems = Vec::new();
        if let Some(account) = &self.account {
            let message = format!("stack {} is made for account {account}, and not for tenants", self.id);
            problems.push(Problem::new(message).hint("leave `env` out where the stack is made, or its account"));
        }
        for image in &self.images {
            let message = format!("stack {} has a container image, {image}, which Tenantry does not package", self.id);
            problems.push(
                Problem::new(message).hint("push it to ECR, and use ContainerImage.fromRegistry or fromEcrRepository"),
            );
        }
        for asset in &self.assets {
            match &asset.path {
                Some(path) if path.exists() => {}
                Some(path) => {
                    problems.push(Problem::new(format!("asset {} is not there: {}", asset.name, path.display())));
                }
                None => {
                    let message = format!("asset {} is made by a program, which Tenantry does not run", asset.name);
                    problems.push(Problem::new(message));
                }
            }
        }
        let tree = &document.tree;
        let parameters = tree.root().and_then(|root| tree.child(root, "Parameters"));
        let legacy = parameters
            .into_iter()
            .flat_map(|id| tree.entries(id))
            .find(|(name, _)| name.starts_with("AssetParameters"));
        if let Some((name, _)) = legacy {
            let problem = Problem::new(format!("stack {} has its assets in parameters, as {name}", self.id));
            problems.push(problem.hint("use the DefaultStackSynthesizer, which is the default since CDK 2"));
        }
        problems
    }

    /// Packages the assets that the template names, and rewrites the template.
    ///
    /// # Errors
    ///
    /// Returns what cannot be packaged.
    pub fn pack(&self, document: &Document, packaging: &Packaging, places: &Places<'_>) -> Result<Packed, Error> {
        let mut pack = Pack { stack: self, packaging, places, objects: BTreeMap::new(), known: HashMap::new() };
        let template = pack.template(&document.text)?;
        Ok(Packed { template, objects: pack.objects })
    }
}

struct Pack<'a> {
    stack: &'a Stack,
    packaging: &'a Packaging,
    places: &'a Places<'a>,
    objects: BTreeMap<String, Object>,
    /// Keys of what is packaged, by the asset's number.
    known: HashMap<usize, String>,
}

impl Pack<'_> {
    fn template(&mut self, text: &str) -> Result<String, Error> {
        let tree = Tree::parse(text);
        let Some(root) = tree.root() else { return Ok(text.to_owned()) };
        let mut edits = Vec::new();
        for way in BOOTSTRAP {
            let mut ids = vec![root];
            ids.extend(way.iter().scan(root, |id, key| {
                *id = tree.child(*id, key)?;
                Some(*id)
            }));
            if ids.len() == 3 {
                edits.extend(edit::without(&tree, &ids));
            }
        }
        self.joined_urls(&tree, root, &mut edits)?;
        let done: Vec<_> = edits.iter().map(|edit| edit.place.clone()).collect();
        let mut scalars = Vec::new();
        tree.scalars(root, &mut |id, text| scalars.push((id, text)));
        for (id, text) in scalars {
            let place = tree.node(id).value.clone();
            if done.iter().any(|done| done.start <= place.start && place.end <= done.end) {
                continue;
            }
            let new = self.rewritten(text)?;
            if new != text {
                edits.push(Edit { place, text: Value::Text(new).written(Style::Double) });
            }
        }
        edit::apply(text, edits).map_err(|_| Error::Unwritable("an asset".to_owned(), self.stack.template.clone()))
    }

    /// Replaces URLs that are joined from the stack's own region, which is not that of our bucket.
    fn joined_urls(&mut self, tree: &Tree, id: Id, edits: &mut Vec<Edit>) -> Result<(), Error> {
        if let Some(join) = tree.child(id, "Fn::Join") {
            let mut parts = Vec::new();
            tree.scalars(join, &mut |_, text| parts.push(text));
            let is_url = parts.iter().any(|part| part.starts_with("https://s3."));
            let asset = parts.iter().find_map(|part| self.asset_in(part).filter(|_| is_url));
            if let (Some((asset, _)), Kind::Mapping { flow: true }) = (asset, &tree.node(id).kind) {
                let url = (self.places.url)(&self.key(asset)?);
                let place = tree.node(id).value.start..tree.node(id).end;
                edits.push(Edit { place, text: Value::Text(url).written(Style::Double) });
                return Ok(());
            }
        }
        for (_, child) in tree.entries(id) {
            self.joined_urls(tree, child, edits)?;
        }
        Ok(())
    }

    /// Returns the asset whose key is in a text, with the key.
    fn asset_in(&self, text: &str) -> Option<(usize, String)> {
        let assets = self.stack.assets.iter().enumerate();
        assets
            .flat_map(|(number, asset)| asset.places.iter().map(move |(_, key)| (number, key)))
            .find(|(_, key)| text.contains(key.as_str()))
            .map(|(number, key)| (number, key.clone()))
    }

    /// Puts our bucket and keys into a text in the place of those of the bootstrap bucket.
    fn rewritten(&mut self, text: &str) -> Result<String, Error> {
        // The URL of an object in one text.
        if let Some(start) = text.find("https://s3.")
            && let Some((asset, old)) = self.asset_in(&text[start..])
            && let Some(at) = text[start..].find(&old)
        {
            let url = (self.places.url)(&self.key(asset)?);
            return Ok(format!("{}{url}{}", &text[..start], &text[start + at + old.len()..]));
        }
        let named: Vec<(usize, String, String)> = (0..)
            .zip(&self.stack.assets)
            .flat_map(|(number, asset)| asset.places.iter().map(move |place| (number, place)))
            .filter(|(_, (bucket, key))| text.contains(bucket) || text.contains(key))
            .map(|(number, (bucket, key))| (number, bucket.clone(), key.clone()))
            .collect();
        let (mut old, mut new) = (Vec::new(), Vec::new());
        for (number, bucket, key) in named {
            if text.contains(&key) {
                new.push(self.key(number)?);
                old.push(key);
            }
            old.push(bucket);
            new.push(self.places.bucket.to_owned());
        }
        // All in one pass: what was put in is not looked at again. It fails for far more patterns than a manifest has.
        let search = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(&old);
        Ok(search.map_or_else(|_| text.to_owned(), |search| search.replace_all(text, &new)))
    }

    /// Packages an asset, once. Returns its key.
    fn key(&mut self, number: usize) -> Result<String, Error> {
        if let Some(key) = self.known.get(&number) {
            return Ok(key.clone());
        }
        let asset = &self.stack.assets[number];
        let path = asset.path.clone().unwrap_or_default();
        let object = if asset.zipped && path.is_dir() {
            self.places.artifact(self.packaging.tree(&path)?, Some("zip"))
        } else {
            let bytes = fs::read(&path).map_err(|source| Error::Read { path: path.clone(), source })?;
            let name = path.to_string_lossy().into_owned();
            if name.ends_with(".template.json") {
                let text = self.template(&String::from_utf8_lossy(&bytes))?;
                self.places.template(&path, text)
            } else {
                let extension = path.extension().and_then(|extension| extension.to_str());
                self.places.artifact(Archive::of_bytes(&name, bytes), extension)
            }
        };
        let key = object.key.clone();
        let name = &self.stack.assets[number].name;
        let mut unique = format!("./{name}");
        if self.objects.contains_key(&unique) {
            unique = format!("{unique} ({})", object.archive.sha256.short());
        }
        self.objects.insert(unique, object);
        self.known.insert(number, key.clone());
        Ok(key)
    }
}
