//! A CDK cloud assembly, as `cdk synth` writes it: its stacks, and their file assets brought into our store, so that no
//! account needs `cdk bootstrap`.
//!
//! Source: <https://github.com/aws/aws-cdk-cli/tree/main/packages/%40aws-cdk/cloud-assembly-schema>, revision 55.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::templates::{Object, Packed, Places, insert};
use super::{Archive, Error, Packaging};
use crate::source::edit::{self, Edit, Value};
use crate::source::yaml::{Id, Style, Tree};
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
    /// The region that it was made for, where it is one only.
    pub region: Option<String>,
    /// The account that it was made for, where it is one only.
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
                    region: region(&artifact.environment),
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

/// Reads the region of `aws://ACCOUNT/REGION`, if it is one.
fn region(environment: &str) -> Option<String> {
    let region = environment.strip_prefix("aws://")?.split('/').nth(1)?;
    (region != "unknown-region").then(|| region.to_owned())
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
        let template = pack.template(&self.template, &document.text)?;
        Ok(Packed { template, objects: pack.objects })
    }
}

/// Finds a bucket's name where it is no part of another name.
fn find_bucket(text: &str, bucket: &str) -> Option<usize> {
    let of_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    let mut hits = text.match_indices(bucket).map(|(at, _)| at);
    hits.find(|at| !text[..*at].ends_with(of_name) && !text[at + bucket.len()..].starts_with(of_name))
}

fn parse(path: &Path, text: &str) -> Result<Tree, Error> {
    Tree::parse(text).map_err(|error| Error::Template(path.to_owned(), error.why))
}

/// Takes an entry of a section out of a template, if it is there.
fn without(path: &Path, text: String, [section, entry]: &[&str; 2]) -> Result<String, Error> {
    let tree = parse(path, &text)?;
    let Some(root) = tree.root() else { return Ok(text) };
    let Some(outer) = tree.child(root, section) else { return Ok(text) };
    let Some(inner) = tree.child(outer, entry) else { return Ok(text) };
    let edits = edit::without(&tree, &[root, outer, inner]).into_iter().collect();
    edit::apply(&text, edits).map_err(|_| Error::Unwritable((*entry).to_owned(), path.to_owned()))
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
    fn template(&mut self, path: &Path, text: &str) -> Result<String, Error> {
        let text = BOOTSTRAP.iter().try_fold(text.to_owned(), |text, way| without(path, text, way))?;
        let tree = parse(path, &text)?;
        let Some(root) = tree.root() else { return Ok(text) };
        let mut edits = Vec::new();
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
        let unwritable = |what: &str| Error::Unwritable(what.to_owned(), path.to_owned());
        let edited = edit::apply(&text, edits).map_err(|_| unwritable("an asset"))?;
        match self.left_over(&edited) {
            Some(name) => Err(unwritable(&format!("asset {name}, which is named in parts,"))),
            None => Ok(edited),
        }
    }

    /// Returns an asset that a template still names by its bucket or key.
    fn left_over(&self, text: &str) -> Option<&str> {
        let ours: BTreeSet<&str> = self.objects.values().map(|object| object.key.as_str()).collect();
        let named = |key: &str| {
            let ours = ours.iter().any(|our| our.ends_with(&format!("/{key}")));
            !ours && text.contains(key)
        };
        // Metadata say `asset.<hash>`, which names no object.
        let parts = |key: &str| key.split('.').next().is_some_and(|stem| text.contains(&format!("\"{stem}\"")));
        // Of a URL whose host is the bucket, the region is that of the stack.
        let host = |bucket: &str| text.contains(&format!("{bucket}.s3"));
        let is_named = |(number, asset): &(usize, &Asset)| {
            asset.places.iter().any(|(bucket, key)| {
                // A hash that stands alone beside a key that was found is a value, as of a trigger.
                let in_parts = parts(key) && !self.known.contains_key(number);
                named(key) || in_parts || host(bucket) || find_bucket(text, bucket).is_some()
            })
        };
        self.stack.assets.iter().enumerate().find(is_named).map(|(_, asset)| asset.name.as_str())
    }

    /// Replaces URLs that are joined from the stack's own region, which is not that of our bucket: the part that ends with
    /// their beginning, the one that begins with the key, and what is between.
    fn joined_urls(&mut self, tree: &Tree, id: Id, edits: &mut Vec<Edit>) -> Result<(), Error> {
        const START: &str = "https://s3.";
        let list = tree.child(id, "Fn::Join").and_then(|join| tree.child(join, "1"));
        let parts: Vec<Id> = list.into_iter().flat_map(|list| tree.entries(list)).map(|(_, part)| part).collect();
        let text = |part: Id| tree.text(part).unwrap_or_default();
        let of_host = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || "./-${}:".contains(c));
        for (first, part) in parts.iter().enumerate() {
            let Some(start) = text(*part).rfind(START).filter(|start| of_host(&text(*part)[start + START.len()..]))
            else {
                continue;
            };
            let (before, mut behind) = (&text(*part)[..start], parts[first + 1..].iter().enumerate());
            let last = behind.find(|(_, part)| self.asset_in(text(**part)).is_some());
            let Some((between, last)) = last else { continue };
            let Some((asset, key)) = self.asset_in(text(*last)) else { continue };
            let at = text(*last).find(&key).unwrap_or_default();
            let rest = &text(*last)[at + key.len()..];
            let plain = parts[first + 1..first + 1 + between]
                .iter()
                .all(|part| of_host(text(*part)) && !text(*part).contains("://"));
            if !plain
                || !of_host(&text(*last)[..at])
                || !text(*last)[..at].ends_with('/')
                || rest.contains(START)
                || before.contains(START)
            {
                let name = &self.stack.assets[asset].name;
                let what = format!("the URL of asset {name}, which is joined with others,");
                return Err(Error::Unwritable(what, self.stack.template.clone()));
            }
            let url = (self.places.url)(&self.key(asset)?);
            let new = format!("{}{url}{}", self.rewritten(before)?, self.rewritten(rest)?);
            let place = tree.node(*part).value.start..tree.node(*last).end;
            edits.push(Edit { place, text: Value::Text(new).written(Style::Double) });
            return Ok(());
        }
        for (_, child) in tree.entries(id) {
            self.joined_urls(tree, child, edits)?;
        }
        Ok(())
    }

    /// Returns the asset whose key comes first in a text, with the key.
    fn asset_in(&self, text: &str) -> Option<(usize, String)> {
        let assets = self.stack.assets.iter().enumerate();
        let places = assets.flat_map(|(number, asset)| asset.places.iter().map(move |(_, key)| (number, key)));
        let found = places.filter_map(|(number, key)| Some((text.find(key.as_str())?, number, key)));
        found.min().map(|(_, number, key)| (number, key.clone()))
    }

    /// Puts our bucket and keys into a text in the place of those of the bootstrap bucket, from left to right: what was
    /// put in is not looked at again.
    fn rewritten(&mut self, text: &str) -> Result<String, Error> {
        let (mut new, mut rest) = (String::new(), text);
        while let Some((asset, key)) = self.asset_in(rest) {
            let at = rest.find(&key).unwrap_or_default();
            let before = &rest[..at];
            // The URL of an object in the stack's own region: host, bucket and key, and nothing else between.
            let of_url = |c: char| c.is_ascii_alphanumeric() || "./-${}:_".contains(c);
            let buckets = self.stack.assets[asset].places.iter().map(|(bucket, _)| bucket);
            let is_object = buckets.into_iter().any(|bucket| before.ends_with(&format!("/{bucket}/")));
            let url = before.rfind("https://s3.").filter(|start| {
                let host = &before[start + "https://".len()..];
                is_object && host.chars().all(of_url) && !host.contains("://")
            });
            new.push_str(&self.with_our_bucket(&before[..url.unwrap_or(at)]));
            let key_of_ours = self.key(asset)?;
            new.push_str(&if url.is_some() { (self.places.url)(&key_of_ours) } else { key_of_ours });
            rest = &rest[at + key.len()..];
        }
        new.push_str(&self.with_our_bucket(rest));
        Ok(new)
    }

    /// Puts our bucket in the place of the bootstrap bucket, where that stands alone.
    fn with_our_bucket(&self, text: &str) -> String {
        let buckets: BTreeSet<&str> =
            self.stack.assets.iter().flat_map(|asset| &asset.places).map(|(bucket, _)| bucket.as_str()).collect();
        let mut new = text.to_owned();
        for bucket in buckets.into_iter().filter(|bucket| *bucket != self.places.bucket) {
            while let Some(at) = find_bucket(&new, bucket) {
                new.replace_range(at..at + bucket.len(), self.places.bucket);
            }
        }
        new
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
                let text = self.template(&path, &String::from_utf8_lossy(&bytes))?;
                self.places.template(&path, text)
            } else {
                let extension = path.extension().and_then(|extension| extension.to_str());
                self.places.artifact(Archive::of_bytes(&name, bytes), extension)
            }
        };
        let key = object.key.clone();
        let name = &self.stack.assets[number].name;
        insert(&mut self.objects, &format!("./{name}"), object);
        self.known.insert(number, key.clone());
        Ok(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUCKET: &str = "cdk-hnb659fds-assets-${AWS::AccountId}-${AWS::Region}";

    /// A stack with two assets, in a folder.
    fn stack(folder: &Path) -> Stack {
        let asset = |name: &str, hash: &str| {
            fs::write(folder.join(name), name).unwrap();
            let places = vec![(BUCKET.to_owned(), format!("{hash}.zip"))];
            Asset { name: name.to_owned(), path: Some(folder.join(name)), zipped: false, places }
        };
        let assets = vec![asset("one", &"1".repeat(64)), asset("two", &"2".repeat(64))];
        Stack {
            id: "S".into(),
            name: "S".into(),
            template: folder.join("S.template.json"),
            tags: BTreeMap::new(),
            region: None,
            account: None,
            after: BTreeSet::new(),
            assets,
            images: Vec::new(),
        }
    }

    fn packed(template: &str) -> Result<String, Error> {
        let folder = tempfile::tempdir().unwrap();
        let stack = stack(folder.path());
        let places = Places { bucket: "ours", folder: "P/app", url: &|key| format!("https://ours.s3/{key}") };
        fs::write(&stack.template, template).unwrap();
        let document = Document::read(&stack.template, "the template").unwrap();
        let packed = stack.pack(&document, &Packaging::default(), &places)?;
        // Keys are shorter here.
        let keys = packed.objects.iter().map(|(name, object)| (object.key.clone(), format!("K{name}")));
        Ok(keys.fold(packed.template, |text, (key, short)| text.replace(&key, &short)))
    }

    #[test]
    fn whatever_names_an_asset_names_ours() {
        let (one, two) = ("1".repeat(64), "2".repeat(64));
        let url = |hash: &str| format!("https://s3.${{AWS::Region}}.${{AWS::URLSuffix}}/{BUCKET}/{hash}.zip");
        for (before, after) in [
            (format!("{{\"Fn::Sub\": \"{BUCKET}\"}}"), "{\"Fn::Sub\": \"ours\"}".to_owned()),
            (format!("\"{one}.zip\""), "\"K./one\"".to_owned()),
            (
                format!("{{\"Fn::Join\": [\"\", [\"https://s3.\", {{\"Ref\": \"AWS::Region\"}}, \".amazonaws.com/\", {{\"Fn::Sub\": \"{BUCKET}\"}}, \"/{two}.zip\"]]}}"),
                "{\"Fn::Join\": [\"\", [\"https://ours.s3/K./two\"]]}".to_owned(),
            ),
            (
                format!("{{\"Fn::Join\": [\"\", [\"#!/bin/bash\\ncurl \", {{\"Fn::Sub\": \"{}\"}}, \"\\nrun\"]]}}", url(&one)),
                "{\"Fn::Join\": [\"\", [\"#!/bin/bash\\ncurl \", {\"Fn::Sub\": \"https://ours.s3/K./one\"}, \"\\nrun\"]]}".to_owned(),
            ),
            (
                format!("\"curl {} ; curl {} ; aws s3 cp s3://{BUCKET}/{two}.zip\"", url(&two), url(&one)),
                "\"curl https://ours.s3/K./two ; curl https://ours.s3/K./one ; aws s3 cp s3://ours/K./two\"".to_owned(),
            ),
            (
                format!("{{\"Fn::Join\": [\"\", [\"#!/bin/bash\\ncurl -O https://s3.\", {{\"Ref\": \"AWS::Region\"}}, \".amazonaws.com/\", {{\"Fn::Sub\": \"{BUCKET}\"}}, \"/{two}.zip\\nrun\", {{\"Ref\": \"X\"}}]]}}"),
                "{\"Fn::Join\": [\"\", [\"#!/bin/bash\\ncurl -O https://ours.s3/K./two\\nrun\", {\"Ref\": \"X\"}]]}".to_owned(),
            ),
            (
                format!("[\"https://s3.amazonaws.com/pub/x {BUCKET} {one}.zip\", \"{one}\"]"),
                format!("[\"https://s3.amazonaws.com/pub/x ours K./one\", \"{one}\"]"),
            ),
            ("\"acme-cdk\"".to_owned(), "\"acme-cdk\"".to_owned()),
        ] {
            let wrap = |value: &str| format!("{{\"Resources\": {{\"R\": {{\"Type\": \"T\", \"Properties\": {{\"V\": {value}}}}}}}}}");
            assert_eq!(packed(&wrap(&before)).unwrap(), wrap(&after));
        }
    }

    #[test]
    fn what_is_named_in_parts_is_refused() {
        let hash = "1".repeat(64);
        for template in [
            format!("{{\"A\": {{\"Fn::Join\": [\"\", [\"{hash}\", \".zip\"]]}}}}"),
            format!("{{\"A\": {{\"Fn::Sub\": \"https://{BUCKET}.s3.${{AWS::Region}}.amazonaws.com/{hash}.zip\"}}}}"),
            format!(
                "{{\"A\": {{\"Fn::Join\": [\"\", [\"https://s3.\", \"x/b/{hash}.zip,https://s3.\", \"/b/{hash}.zip\"]]}}}}"
            ),
        ] {
            assert!(matches!(packed(&template), Err(Error::Unwritable(..))), "{template}");
        }
    }

    #[test]
    fn the_bootstrap_rule_goes_and_all_else_stays() {
        let only = "{\n \"Parameters\": {\"BootstrapVersion\": {}},\n \"Rules\": {\"CheckBootstrapVersion\": {}},\n \"Resources\": {}\n}";
        assert_eq!(packed(only).unwrap(), "{\n \"Resources\": {}\n}");
        let others = "{\"Resources\": {}, \"Parameters\": {\"A\": {}, \"BootstrapVersion\": {}}, \"Rules\": {\"CheckBootstrapVersion\": {}, \"B\": {}}}";
        assert_eq!(packed(others).unwrap(), "{\"Resources\": {}, \"Parameters\": {\"A\": {}}, \"Rules\": {\"B\": {}}}");
    }

    #[test]
    fn a_bucket_is_replaced_where_it_stands_alone() {
        assert_eq!(find_bucket("arn:aws:s3:::acme-private/*", "acme"), None);
        assert_eq!(find_bucket("s3://acme/x", "acme"), Some(5));
    }
}
