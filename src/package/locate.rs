//! What a template names on this machine.

use std::collections::HashSet;

use super::properties::{self, Form, GLOBALS, GRAPHQL_CODE, IMAGES, INCLUDE, Property, REPOSITORY};
use crate::source::edit::{Edit, Value};
use crate::source::yaml::{Id, Kind, Style};
use crate::source::{Document, Problem};

/// A value that names a file or a folder.
#[derive(Debug)]
pub struct Reference {
    /// What it is.
    pub property: &'static Property,
    /// Whose it is, as `Hello.CodeUri`, for messages.
    pub whose: String,
    /// As it is written; `.` where the property is absent.
    pub local: String,
    /// Where the reader looks.
    pub place: std::ops::Range<usize>,
    target: Target,
}

/// How the value gets its place.
#[derive(Debug)]
enum Target {
    /// In the place of a node.
    Node(Id),
    /// Under a new key of a mapping.
    New(Id, &'static str),
}

/// What was found in a template.
#[derive(Debug, Default)]
pub struct Found {
    /// What is local.
    pub references: Vec<Reference>,
    /// Values that only have to be written otherwise.
    pub edits: Vec<Edit>,
    /// What is wrong.
    pub problems: Vec<Problem>,
}

impl Reference {
    /// Returns the edit that puts a value in the reference's place.
    pub fn edit(&self, document: &Document, value: &Value) -> Option<Edit> {
        let tree = &document.tree;
        match self.target {
            Target::Node(id) => value.instead_of(tree.node(id)),
            Target::New(mapping, key) => {
                let flow = matches!(tree.node(mapping).kind, Kind::Mapping { flow: true });
                let first = tree.entries(mapping).first().and_then(|(_, child)| tree.node(*child).key.clone())?;
                value.before(&first, flow, key, &document.text)
            }
        }
    }
}

/// Finds everything local that a template names, whose aliases and merges are written out. `number` is its document's
/// number.
pub fn locate(document: &Document, number: usize) -> Found {
    let mut search = Search { document, number, found: Found::default(), seen: HashSet::new() };
    let tree = &document.tree;
    if let Some(root) = tree.root() {
        let child = |name| tree.child(root, name);
        if let Some(application) = child("Metadata").and_then(|id| tree.child(id, REPOSITORY[0].resource)) {
            for property in &REPOSITORY {
                search.property(property, "Metadata", application, false);
            }
        }
        if let Some(globals) = child("Globals") {
            for (section, resource) in GLOBALS {
                let Some(id) = tree.child(globals, section) else { continue };
                for property in properties::of(resource) {
                    search.property(property, &format!("Globals.{section}"), id, false);
                }
            }
        }
        if let Some(resources) = child("Resources") {
            search.resources(resources);
        }
        search.includes(root);
        search.transforms(root);
        for (_, resource) in child("Resources").into_iter().flat_map(|id| tree.entries(id)) {
            let kind = tree.child(resource, "Type").and_then(|id| tree.text(id)).unwrap_or_default();
            if let Some(inner) = tree.child(resource, "Properties").filter(|_| kind.starts_with("AWS::")) {
                search.left_over(inner, "");
            }
        }
    }
    search.found
}

struct Search<'a> {
    document: &'a Document,
    number: usize,
    found: Found,
    /// Values that were looked at: no path that is left over.
    seen: HashSet<Id>,
}

impl Search<'_> {
    fn problem(&mut self, id: Id, message: String, hint: &str) {
        let place = self.document.tree.node(id).value.clone();
        self.found.problems.push(Problem::new(message).at(self.number, place).hint(hint));
    }

    /// Looks at resources, and into loops over resources: their body is packaged once.
    fn resources(&mut self, resources: Id) {
        let tree = &self.document.tree;
        for (name, resource) in tree.entries(resources) {
            if name.starts_with("Fn::ForEach") {
                if let Some(body) = tree.child(resource, "2") {
                    self.resources(body);
                }
                continue;
            }
            let Some(kind) = tree.child(resource, "Type").and_then(|id| tree.text(id)) else { continue };
            let inner = tree.child(resource, "Properties");
            let has = |key: &str| inner.and_then(|inner| tree.child(inner, key));
            let is_image = has("PackageType").and_then(|id| tree.text(id)) == Some("Image");
            let without_code = is_image || has("InlineCode").is_some() || has("ImageUri").is_some();
            for property in properties::of(kind) {
                let defaults = property.defaults_to_folder && !without_code && !self.is_global(property);
                match inner {
                    Some(inner) => self.property(property, name, inner, defaults),
                    None if defaults => {
                        let message = format!("{name} has no {}", property.path.join("."));
                        self.problem(resource, message, "write under `Properties` which folder is meant");
                    }
                    None => {}
                }
            }
            let Some(inner) = inner else { continue };
            if kind == GRAPHQL_CODE.resource {
                for part in ["Resolvers", "Functions"].iter().filter_map(|part| tree.child(inner, part)) {
                    self.graphql(name, part);
                }
            }
            for (_, path) in IMAGES.iter().filter(|(resource, _)| *resource == kind) {
                self.image(name, inner, path, is_image);
            }
        }
    }

    /// Tells whether `Globals` have a property, which SAM then gives to every resource without one.
    fn is_global(&self, property: &Property) -> bool {
        let tree = &self.document.tree;
        let section = GLOBALS.iter().find(|(_, resource)| *resource == property.resource);
        let path = ["Globals", section.map_or("", |(section, _)| section), property.path[0]];
        let end = path.iter().try_fold(tree.root().unwrap_or_default(), |id, key| tree.child(id, key));
        end.is_some()
    }

    /// Looks at a property below a mapping.
    fn property(&mut self, property: &'static Property, name: &str, mapping: Id, defaults: bool) {
        let tree = &self.document.tree;
        let is_mapping = matches!(tree.node(mapping).kind, Kind::Mapping { .. });
        if tree.is_null(mapping) && defaults {
            let message = format!("{name}.{} is absent", property.path.join("."));
            return self.problem(mapping, message, "write which folder is meant, or `.`");
        }
        let (Some((last, way)), true) = (property.path.split_last(), is_mapping) else { return };
        let mut inner = mapping;
        for key in way {
            match tree.child(inner, key) {
                Some(child) => inner = child,
                None if defaults => {
                    let message = format!("{name} has no {}", property.path.join("."));
                    return self.problem(mapping, message, "write which file is meant");
                }
                None => return,
            }
        }
        let whose = format!("{name}.{}", property.path.join("."));
        match tree.child(inner, last) {
            Some(id) => self.value(property, whose, id, defaults),
            None if defaults && !tree.is_tagged(inner) => {
                let place = self.document.place(inner);
                let target = Target::New(inner, last);
                let new = Reference { property, whose, local: ".".to_owned(), place, target };
                // There is no place for it in a mapping that is empty, or whose first key stands behind something else.
                if new.edit(self.document, &Value::Text(String::new())).is_some() {
                    self.found.references.push(new);
                } else {
                    let message = format!("{} is absent", new.whose);
                    self.problem(inner, message, "write which folder is meant, or `.`");
                }
            }
            None => {}
        }
    }

    /// Looks at a value that may name something local.
    fn value(&mut self, property: &'static Property, whose: String, id: Id, defaults: bool) {
        let tree = &self.document.tree;
        let node = tree.node(id);
        if !self.seen.insert(id) {
            return;
        }
        let empty = tree.is_null(id) || tree.text(id) == Some("");
        if empty && defaults {
            return self.problem(id, format!("{whose} has no value"), "write which folder is meant, or `.`");
        }
        let Some(text) = tree.text(id).filter(|_| !empty) else {
            self.structure(id, &whose);
            return;
        };
        let is_web = text.starts_with("https://") || text.starts_with("http://");
        let remote = S3Object::parse(text);
        match (&property.form, remote) {
            (Form::Uri | Form::Url, Some(_)) => return,
            (Form::Uri | Form::Url, None) if is_web => return,
            (Form::Object(..), Some(object)) => {
                let edit = object.value(&property.form).instead_of(node);
                match edit {
                    Some(edit) => self.found.edits.push(edit),
                    None => self.in_a_block(id, &whose),
                }
                return;
            }
            (Form::Object(..), None) if is_web => {
                return self.problem(id, format!("{whose} is no URL of S3"), "write s3://bucket/key, or a path");
            }
            _ => {}
        }
        if matches!(node.kind, Kind::Scalar(_, Style::Block)) {
            return self.in_a_block(id, &whose);
        }
        let place = node.value.clone();
        self.found.references.push(Reference {
            property,
            whose,
            local: text.to_owned(),
            place,
            target: Target::Node(id),
        });
    }

    /// Refuses what names something local in another form than a text.
    fn structure(&mut self, id: Id, whose: &str) {
        let tree = &self.document.tree;
        let node = tree.node(id);
        if node.tag.as_deref().is_some_and(|tag| tag.starts_with("!!") || tag.starts_with("tag:")) {
            return self.problem(id, format!("{whose} has a tag beside its value"), "leave the tag out");
        }
        if node.kind == Kind::Sequence && node.tag.is_none() {
            return self.problem(id, format!("{whose} is a list"), "write one path");
        }
        let mut local = None;
        tree.scalars(id, &mut |id, text| {
            if is_relative(text) {
                local.get_or_insert((id, text));
            }
        });
        if let Some((id, text)) = local {
            let message = format!("`{text}` is a path within a function, which Tenantry does not follow");
            self.problem(id, message, HINT);
        }
    }

    fn in_a_block(&mut self, id: Id, whose: &str) {
        self.problem(id, format!("{whose} is a text of several lines"), "write the path on one line");
    }

    /// Looks for code at any depth.
    fn graphql(&mut self, name: &str, id: Id) {
        let tree = &self.document.tree;
        for (key, child) in tree.entries(id) {
            if key == "CodeUri" {
                self.value(&GRAPHQL_CODE, format!("{name}.{key}"), child, false);
            } else if matches!(tree.node(child).kind, Kind::Mapping { .. }) {
                self.graphql(name, child);
            }
        }
    }

    /// Refuses an image that is not in a registry.
    fn image(&mut self, name: &str, properties: Id, path: &[&str], is_image: bool) {
        let tree = &self.document.tree;
        let hint = "Tenantry packages no images: push it to ECR, and write its URI";
        let end = path.iter().try_fold(properties, |id, key| tree.child(id, key));
        match end.map(|id| (id, tree.text(id))) {
            Some((id, Some(text))) if !text.contains(".dkr.ecr.") => {
                self.problem(id, format!("{name}: `{text}` is an image on this machine"), hint);
            }
            None if is_image && path.len() == 1 && !self.has_global_image() => {
                self.problem(properties, format!("{name} is of an image, and has no ImageUri"), hint);
            }
            _ => {}
        }
    }

    fn has_global_image(&self) -> bool {
        let tree = &self.document.tree;
        let way = ["Globals", "Function", "ImageUri"];
        way.iter().try_fold(tree.root().unwrap_or_default(), |id, key| tree.child(id, key)).is_some()
    }

    /// Looks for AWS::Include anywhere, in its long and its short form.
    fn includes(&mut self, id: Id) {
        let tree = &self.document.tree;
        if tree.node(id).tag.as_deref() == Some("!Transform") {
            self.include(id);
        }
        for (key, child) in tree.entries(id) {
            if key == "Fn::Transform" {
                self.include(child);
            }
            self.includes(child);
        }
    }

    /// Looks at the template's own transforms, which may include too.
    fn transforms(&mut self, root: Id) {
        let tree = &self.document.tree;
        let Some(transform) = tree.child(root, "Transform") else { return };
        self.include(transform);
        if matches!(tree.node(transform).kind, Kind::Sequence) {
            for (_, one) in tree.entries(transform) {
                self.include(one);
            }
        }
    }

    fn include(&mut self, transform: Id) {
        let tree = &self.document.tree;
        let is_include = tree.child(transform, "Name").and_then(|id| tree.text(id)) == Some(INCLUDE.resource);
        let location = tree.child(transform, "Parameters").and_then(|id| tree.child(id, "Location"));
        if let (true, Some(id)) = (is_include, location) {
            self.value(&INCLUDE, format!("{}.Location", INCLUDE.resource), id, false);
        }
    }

    /// Refuses what looks like a path, under a key that names places, in a property that nobody rewrites.
    fn left_over(&mut self, id: Id, key: &str) {
        const PLACES: [&str; 6] = ["Uri", "URI", "Url", "URL", "Location", "S3Key"];
        let tree = &self.document.tree;
        let names_place = PLACES.iter().any(|end| key.ends_with(end));
        if let Some(text) = tree.text(id).filter(|text| names_place && is_relative(text))
            && !self.seen.contains(&id)
        {
            let message = format!("`{text}` is a path on this machine, which CloudFormation cannot reach");
            return self.problem(id, message, HINT);
        }
        // Variables are the program's own.
        for (key, child) in tree.entries(id).into_iter().filter(|(key, _)| *key != "Variables") {
            self.left_over(child, key);
        }
    }
}

/// What to do about a path that is not rewritten.
const HINT: &str = "make it an artifact, and give its bucket and key to the template as parameters: \
                    {artifacts.NAME.bucket} and {artifacts.NAME.key}";

fn is_relative(text: &str) -> bool {
    (text.starts_with("./") || text.starts_with("../")) && !text.contains(char::is_whitespace)
}

/// An object in S3 that a template names itself.
#[derive(Debug, PartialEq, Eq)]
pub struct S3Object {
    bucket: String,
    key: String,
    version: Option<String>,
}

impl S3Object {
    /// Reads `s3://bucket/key`, with or without a version, and URLs of S3's own hosts.
    pub fn parse(text: &str) -> Option<Self> {
        let (path, query) = text.split_once('?').unwrap_or((text, ""));
        let (bucket, key) = if let Some(rest) = path.strip_prefix("s3://") {
            rest.split_once('/')?
        } else {
            let (host, rest) = path.strip_prefix("https://")?.split_once('/')?;
            if !host.contains(".amazonaws.com") {
                return None;
            }
            match host.split_once(".s3.").or_else(|| host.split_once(".s3-")) {
                Some((bucket, _)) => (bucket, rest),
                None if host.starts_with("s3.") || host.starts_with("s3-") => rest.split_once('/')?,
                None => return None,
            }
        };
        let version = query.split('&').find_map(|pair| pair.strip_prefix("versionId="));
        (!bucket.is_empty() && !key.is_empty()).then(|| Self {
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            version: version.map(str::to_owned),
        })
    }

    /// Names an object.
    pub fn new(bucket: &str, key: &str) -> Self {
        Self { bucket: bucket.to_owned(), key: key.to_owned(), version: None }
    }

    /// Returns the object in the form of a property; URLs are for others to write.
    pub fn value(&self, form: &Form) -> Value {
        match form {
            Form::Uri | Form::Url => Value::Text(format!("s3://{}/{}", self.bucket, self.key)),
            Form::Object(bucket, key, version) => {
                let mut entries = vec![(*bucket, self.bucket.clone()), (*key, self.key.clone())];
                if let (Some(name), Some(version)) = (version, &self.version) {
                    entries.push((name, version.clone()));
                }
                Value::Object(entries)
            }
        }
    }
}
