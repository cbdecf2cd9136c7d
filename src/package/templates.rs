//! A template with everything local that it names: found and checked offline, then packaged and rewritten.

use std::collections::{BTreeMap, HashMap};
use std::path::{Component, Path, PathBuf};

use super::locate::{Reference, S3Object, locate};
use super::properties::{self, Content, Form};
use super::{Archive, Error, Packaging};
use crate::source::edit::{self, Edit, Value};
use crate::source::{Document, Problem};

/// A template and those that it nests.
#[derive(Debug, Default)]
pub struct Sources {
    /// The template, and then those that it nests.
    pub documents: Vec<Document>,
    /// By document, what is local in it.
    found: Vec<Local>,
}

/// What is local in one template.
#[derive(Debug, Default)]
struct Local {
    references: Vec<Reference>,
    edits: Vec<Edit>,
    /// Where nested templates are among the documents, by reference.
    nested: HashMap<usize, usize>,
}

/// Where objects will be.
pub struct Places<'a> {
    /// The bucket.
    pub bucket: &'a str,
    /// The part of the keys before `artifacts/` and `templates/`, without a slash at its end.
    pub folder: &'a str,
    /// The URL under which CloudFormation reads a key.
    pub url: &'a dyn Fn(&str) -> String,
}

/// A template that names nothing local any more.
#[derive(Debug)]
pub struct Packed {
    /// Its text.
    pub template: String,
    /// What it names, by where it came from, as `./src`.
    pub objects: BTreeMap<String, Object>,
}

/// An object that a template names.
#[derive(Debug, Clone)]
pub struct Object {
    /// Its bytes.
    pub archive: Archive,
    /// Its key in the bucket.
    pub key: String,
}

impl Places<'_> {
    /// Names an artifact's object.
    pub(super) fn artifact(&self, archive: Archive, extension: Option<&str>) -> Object {
        let end = extension.map(|extension| format!(".{extension}")).unwrap_or_default();
        Object { key: format!("{}/artifacts/{}{end}", self.folder, archive.sha256), archive }
    }

    /// Names a template's object.
    pub(super) fn template(&self, path: &Path, text: String) -> Object {
        let extension = if is_json(&text) { "json" } else { "yaml" };
        let archive = Archive::of_bytes(&path.to_string_lossy(), text.into_bytes());
        Object { key: format!("{}/templates/{}.{extension}", self.folder, archive.sha256), archive }
    }
}

/// Tells whether a template is JSON.
pub fn is_json(template: &str) -> bool {
    template.trim_start().starts_with('{')
}

impl Sources {
    /// Reads a template, and those that it nests. Problems count documents as `documents` does.
    pub fn of_template(template: Document) -> (Self, Vec<Problem>) {
        let mut sources = Self::default();
        let mut problems = Vec::new();
        let path = canonical(&template.path);
        sources.read(template, &mut vec![path], &mut HashMap::new(), &mut problems);
        (sources, problems)
    }

    /// Reads one template; `way` is how it was come to. Returns its number.
    fn read(
        &mut self,
        document: Document,
        way: &mut Vec<PathBuf>,
        known: &mut HashMap<PathBuf, usize>,
        problems: &mut Vec<Problem>,
    ) -> usize {
        let number = self.documents.len();
        if let Some(unreadable) = document.unreadable.as_ref().filter(|_| may_be_local(&document.text)) {
            let message =
                format!("places in the template cannot be found, since it is not YAML 1.2: {}", unreadable.why);
            let problem = Problem::new(message).at(number, unreadable.at..unreadable.at);
            problems
                .push(problem.hint("CloudFormation takes it; quotes around the value before this place mostly help"));
        }
        let found = locate(&document, number);
        problems.extend(found.problems);
        let folder = folder_of(&document).to_owned();
        self.documents.push(document);
        self.found.push(Local::default());
        let mut nested = HashMap::new();
        for (index, reference) in found.references.iter().enumerate() {
            let path = folder.join(&reference.local);
            let problem = |message: String| Problem::new(message).at(number, reference.place.clone());
            let whose = &reference.whose;
            if !path.exists() {
                let message = format!("{whose} names {}, which is not there", path.display());
                let hint = "a path is taken as it is written: nothing is put in for `${...}`";
                let has_variable = reference.local.contains("${");
                problems.push(if has_variable { problem(message).hint(hint) } else { problem(message) });
                continue;
            }
            if !matches!(reference.property.content, Content::Template | Content::RawTemplate) {
                continue;
            }
            if !path.is_file() {
                problems.push(problem(format!("{whose} names {}, which is no file", path.display())));
                continue;
            }
            if reference.property.content == Content::RawTemplate {
                continue;
            }
            let meant = canonical(&path);
            if let Some(start) = way.iter().position(|step| *step == meant) {
                let names = way[start..].iter().chain([&meant]);
                let names: Vec<_> = names.filter_map(|path| path.file_name()?.to_str()).collect();
                problems.push(problem(format!("templates nest each other without end: {}", names.join(" > "))));
                continue;
            }
            let child = match known.get(&normal(&path)) {
                Some(child) => *child,
                None => match Document::read(&path, "the nested template") {
                    Err(unread) => {
                        problems.push(unread.at(number, reference.place.clone()));
                        continue;
                    }
                    Ok(document) if document.tree.root().is_none() && document.unreadable.is_none() => {
                        problems.push(problem(format!("{} is not a template", path.display())));
                        continue;
                    }
                    Ok(document) => {
                        let Ok(document) = document.expanded(number) else {
                            problems.push(problem(format!("an alias in {} has no end", path.display())));
                            continue;
                        };
                        way.push(meant);
                        let child = self.read(document, way, known, problems);
                        way.pop();
                        known.insert(normal(&path), child);
                        child
                    }
                },
            };
            nested.insert(index, child);
        }
        self.found[number] = Local { references: found.references, edits: found.edits, nested };
        number
    }

    /// Packages everything local, nested templates first, and rewrites the template.
    ///
    /// # Errors
    ///
    /// Returns what cannot be packaged.
    pub fn pack(&self, packaging: &Packaging, places: &Places<'_>) -> Result<Packed, Error> {
        let mut pack = Pack { sources: self, packaging, places, objects: BTreeMap::new(), known: HashMap::new() };
        let template = pack.template(0)?;
        Ok(Packed { template, objects: pack.objects })
    }
}

fn canonical(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

fn folder_of(document: &Document) -> &Path {
    document.path.parent().unwrap_or(Path::new(""))
}

struct Pack<'a> {
    sources: &'a Sources,
    packaging: &'a Packaging,
    places: &'a Places<'a>,
    objects: BTreeMap<String, Object>,
    /// Keys of what is packaged already, by path and what is made of it.
    known: HashMap<(PathBuf, Content), String>,
}

impl Pack<'_> {
    /// Rewrites a template.
    fn template(&mut self, number: usize) -> Result<String, Error> {
        let document = &self.sources.documents[number];
        let local = &self.sources.found[number];
        let mut edits = local.edits.clone();
        for (index, reference) in local.references.iter().enumerate() {
            let key = self.reference(document, reference, local.nested.get(&index).copied())?;
            let value = match reference.property.form {
                Form::Url => Value::Text((self.places.url)(&key)),
                _ => S3Object::new(self.places.bucket, &key).value(&reference.property.form),
            };
            let unwritable = || Error::Unwritable(reference.whose.clone(), document.path.clone());
            edits.push(reference.edit(document, &value).ok_or_else(unwritable)?);
        }
        let contradiction = |_| Error::Unwritable("a value behind an alias".to_owned(), document.path.clone());
        edit::apply(&document.text, edits).map_err(contradiction)
    }

    /// Packages what a reference names, once. Returns its key.
    fn reference(
        &mut self,
        document: &Document,
        reference: &Reference,
        nested: Option<usize>,
    ) -> Result<String, Error> {
        let path = folder_of(document).join(&reference.local);
        let content = reference.property.content;
        let known = (normal(&path), content);
        if let Some(key) = self.known.get(&known) {
            return Ok(key.clone());
        }
        let object = match nested {
            Some(child) => {
                let text = self.template(child)?;
                self.places.template(&path, text)
            }
            None => self.content(&path, content)?,
        };
        if content == Content::Code && object.archive.unzipped > super::UNZIPPED {
            return Err(Error::TooLarge { path, archive: Box::new(object.archive) });
        }
        let key = object.key.clone();
        let name = self.name(&path);
        insert(&mut self.objects, &name, object);
        self.known.insert(known, key.clone());
        Ok(key)
    }

    fn content(&self, path: &Path, content: Content) -> Result<Object, Error> {
        let zipped = |archive| self.places.artifact(archive, Some("zip"));
        if path.is_dir() {
            return self.packaging.tree(path).map(zipped);
        }
        match content {
            Content::Code | Content::Zip => super::zip_of(path).map(zipped),
            _ => {
                let bytes = std::fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
                let archive = Archive::of_bytes(&path.to_string_lossy(), bytes);
                if content == Content::RawTemplate {
                    let text = String::from_utf8_lossy(&archive.bytes).into_owned();
                    return Ok(self.places.template(path, text));
                }
                Ok(self.places.artifact(archive, path.extension().and_then(|extension| extension.to_str())))
            }
        }
    }

    /// Names an object by where it comes from, seen from the first template.
    fn name(&self, path: &Path) -> String {
        let root = normal(folder_of(&self.sources.documents[0]));
        let path = normal(path);
        format!("./{}", path.strip_prefix(root).unwrap_or(&path).display())
    }
}

/// Takes `.` and `..` out of a path, as it is written: what links lead to is another place.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if normal.file_name().is_some() => _ = normal.pop(),
            other => normal.push(other),
        }
    }
    normal
}

/// Keeps an object under a name of its own: the same file may be several objects, as a zip and as it is.
pub(super) fn insert(objects: &mut BTreeMap<String, Object>, name: &str, object: Object) {
    let mut unique = name.to_owned();
    for number in 2.. {
        match objects.get(&unique) {
            Some(other) if other.key != object.key => unique = format!("{name} ({number})"),
            _ => break,
        }
    }
    objects.insert(unique, object);
}

/// Tells whether a template may name something local, where the places of its values are not known.
fn may_be_local(text: &str) -> bool {
    use serde_yaml::Value as Yaml;
    fn anywhere(value: &Yaml, found: &dyn Fn(&str) -> bool) -> bool {
        match value {
            Yaml::String(text) => found(text),
            Yaml::Sequence(items) => items.iter().any(|item| anywhere(item, found)),
            Yaml::Mapping(entries) => entries.iter().any(|(key, value)| anywhere(key, found) || anywhere(value, found)),
            Yaml::Tagged(tagged) => anywhere(&tagged.value, found),
            _ => false,
        }
    }
    let Ok(root) = serde_yaml::from_str::<Yaml>(text) else { return true };
    let special = ["AWS::Include", "AWS::ServerlessRepo", "AWS::Serverless::GraphQLApi", "Fn::ForEach"];
    let is_special = |text: &str| {
        special.iter().any(|name| text.contains(name)) || ["./", "../"].iter().any(|start| text.starts_with(start))
    };
    if anywhere(&root, &is_special) || root.get("Globals").is_some() || has_aliases(text) {
        return true;
    }
    let is_remote = |text: &str| ["s3://", "https://", "http://"].iter().any(|start| text.starts_with(start));
    let names = |resource: &Yaml| {
        let kind = resource.get("Type").and_then(Yaml::as_str).unwrap_or_default();
        let inner = resource.get("Properties");
        let value = |path: &[&str]| path.iter().try_fold(inner?, |value, key| value.get(key));
        properties::of(kind).any(|property| match value(property.path) {
            Some(Yaml::String(text)) => !is_remote(text),
            Some(_) => false,
            None => property.defaults_to_folder && value(&["InlineCode"]).is_none() && value(&["ImageUri"]).is_none(),
        })
    };
    let resources = root.get("Resources").and_then(Yaml::as_mapping).into_iter().flatten();
    resources.map(|(_, resource)| resource).any(names)
}

/// Tells whether a text may have aliases or merges.
fn has_aliases(text: &str) -> bool {
    let named = |start: &str| {
        text.match_indices(start).any(|(at, _)| text[at + start.len()..].starts_with(|c: char| c.is_alphanumeric()))
    };
    text.contains("<<:") || [" *", "[*", "{*"].into_iter().any(named)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::source::Problems;

    /// A folder with an application that has one of everything.
    fn application() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("src/app.py", "print('hello')"),
            ("one.py", "print('one')"),
            ("api.yaml", "openapi: 3.0.1"),
            ("child/template.yaml", "Resources:\n  In: {Type: AWS::Lambda::Function, Properties: {Code: code/}}\n"),
            ("child/code/in.js", "exports.x = 1"),
            ("snippet.yaml", "a: 1"),
        ] {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    fn read(folder: &Path, template: &str) -> (Sources, Vec<Problem>) {
        let path = folder.join("template.yaml");
        fs::write(&path, template).unwrap();
        Sources::of_template(Document::read(&path, "the template").unwrap())
    }

    fn pack(folder: &Path, template: &str) -> Packed {
        let (sources, problems) = read(folder, template);
        assert!(problems.is_empty(), "{}", Problems::new(&sources.documents, problems));
        let url = |key: &str| format!("https://bucket.s3.eu-west-1.amazonaws.com/{key}");
        let places = Places { bucket: "bucket", folder: "P/shared/app", url: &url };
        sources.pack(&Packaging::default(), &places).unwrap()
    }

    #[track_caller]
    fn problems(template: &str) -> String {
        let folder = application();
        let (mut sources, problems) = read(folder.path(), template);
        for document in &mut sources.documents {
            document.path = document.path.strip_prefix(folder.path()).unwrap().to_owned();
        }
        let text = Problems::new(&sources.documents, problems).to_string();
        anstream::adapter::strip_str(&text).to_string().replace(&format!("{}/", folder.path().display()), "")
    }

    const TEMPLATE: &str = r#"# The application.
Transform: AWS::Serverless-2016-10-31
Globals:
  Function: {Timeout: 3}
Resources:
  Hello:
    Type: AWS::Serverless::Function # a comment
    Properties:
      Handler: app.handler
      CodeUri: src/   # where the code is
      Environment: {Variables: {A: !Sub "${AWS::Region}", B: "./not-a-place"}}
  Inline:
    Type: AWS::Serverless::Function
    Properties:
      InlineCode: |
        def handler(event, context):
          pass
  One:
    Type: AWS::Lambda::Function
    Properties:
      Code: 'one.py'
  Elsewhere:
    Type: AWS::Lambda::LayerVersion
    Properties: {Content: "s3://other/layer.zip?versionId=7"}
  Parameters:
    Type: AWS::Lambda::Function
    Properties:
      Code: {S3Bucket: !Ref Bucket, S3Key: !Ref Key}
  Api:
    Type: AWS::Serverless::Api
    Properties:
      StageName: v1
      DefinitionBody:
        Fn::Transform: {Name: AWS::Include, Parameters: {Location: snippet.yaml}}
  Rest: {Type: AWS::ApiGateway::RestApi, Properties: {BodyS3Location: ./api.yaml}}
  Child: {Type: AWS::CloudFormation::Stack, Properties: {TemplateURL: child/template.yaml}}
  Fn::ForEach::Loop:
    - Name
    - [A, B]
    - "Looped${Name}": {Type: AWS::Serverless::Function, Properties: {CodeUri: ./src}}
"#;

    #[test]
    fn exactly_the_local_values_are_rewritten() {
        let folder = application();
        let packed = pack(folder.path(), TEMPLATE);
        let changed: Vec<String> = TEMPLATE
            .lines()
            .zip(packed.template.lines())
            .filter(|(before, after)| before != after)
            .map(|(_, after)| after.trim().to_owned())
            .collect();
        assert_eq!(TEMPLATE.lines().count(), packed.template.lines().count());
        let key = |name: &str| packed.objects[name].key.clone();
        let uri = |name: &str| format!("s3://bucket/{}", key(name));
        let expected = [
            format!("CodeUri: {}   # where the code is", uri("./src")),
            format!("Code: {{S3Bucket: 'bucket', S3Key: '{}'}}", key("./one.py")),
            "Properties: {Content: {\"S3Bucket\": \"other\", \"S3Key\": \"layer.zip\", \"S3ObjectVersion\": \"7\"}}"
                .into(),
            format!("Fn::Transform: {{Name: AWS::Include, Parameters: {{Location: {}}}}}", uri("./snippet.yaml")),
            format!(
                "Rest: {{Type: AWS::ApiGateway::RestApi, Properties: {{BodyS3Location: {{Bucket: bucket, Key: {}}}}}}}",
                key("./api.yaml")
            ),
            format!(
                "Child: {{Type: AWS::CloudFormation::Stack, Properties: {{TemplateURL: https://bucket.s3.eu-west-1.amazonaws.com/{}}}}}",
                key("./child/template.yaml")
            ),
            format!(
                "- \"Looped${{Name}}\": {{Type: AWS::Serverless::Function, Properties: {{CodeUri: {}}}}}",
                uri("./src")
            ),
        ];
        assert_eq!(changed, expected);
        assert_eq!(
            packed.objects.keys().collect::<Vec<_>>(),
            ["./api.yaml", "./child/code", "./child/template.yaml", "./one.py", "./snippet.yaml", "./src"]
        );
        let child = String::from_utf8(packed.objects["./child/template.yaml"].archive.bytes.to_vec()).unwrap();
        assert!(child.contains(&format!("Code: {{S3Bucket: bucket, S3Key: {}}}", key("./child/code"))), "{child}");
        assert_eq!(
            key("./api.yaml"),
            format!("P/shared/app/artifacts/{}.yaml", packed.objects["./api.yaml"].archive.sha256)
        );
        assert!(key("./child/template.yaml").starts_with("P/shared/app/templates/"));
        assert_eq!(pack(folder.path(), TEMPLATE).template, packed.template, "twice the same");
    }

    #[test]
    fn an_absent_property_that_means_the_folder_is_added() {
        let folder = application();
        let template = "Resources:\n  F:\n    Type: AWS::Serverless::Function\n    Properties:\n      Handler: x\n";
        let packed = pack(folder.path(), template);
        let uri = format!("      CodeUri: s3://bucket/{}\n      Handler: x\n", packed.objects["./"].key);
        assert!(packed.template.ends_with(&uri), "{}", packed.template);
        // With a default for all functions, or without code of its own, it stays absent.
        for rest in ["Globals: {Function: {CodeUri: src}}\n", ""] {
            let other = if rest.is_empty() { "InlineCode: x" } else { "Handler: x" };
            let template =
                format!("{rest}Resources: {{F: {{Type: AWS::Serverless::Function, Properties: {{{other}}}}}}}");
            let packed = pack(folder.path(), &template);
            assert!(packed.template.ends_with(&format!("Properties: {{{other}}}}}}}")), "{}", packed.template);
            assert_eq!(packed.objects.len(), usize::from(!rest.is_empty()));
        }
    }

    #[test]
    fn what_cannot_be_packaged_is_told_with_its_place() {
        let resource = |kind: &str, properties: &str| {
            format!("Resources:\n  R:\n    Type: {kind}\n    Properties:\n      {properties}\n")
        };
        let all = [
            resource("AWS::Lambda::Function", "Code: nowhere/"),
            resource("AWS::Serverless::Function", "CodeUri: 'functions/${Name}'"),
            resource("AWS::Serverless::Function", "CodeUri: |\n        src\n"),
            resource("AWS::Serverless::Function", "CodeUri:"),
            resource("AWS::Lambda::Function", "Code: https://example.com/code.zip"),
            resource("AWS::CloudFormation::Stack", "TemplateURL: src"),
            resource("AWS::CloudFormation::Stack", "TemplateURL: template.yaml"),
            resource("AWS::Serverless::Function", "{PackageType: Image, ImageUri: 'hello:latest'}"),
            resource("AWS::Serverless::Function", "PackageType: Image"),
            resource("AWS::Kinesis::Application", "CodeLocation: ./src"),
            resource("AWS::Serverless::Function", "CodeUri: !If [C, ./src, ./child]"),
            resource("AWS::Lambda::Function", "Code: [src]"),
            resource("AWS::Lambda::Function", "{}"),
            resource("AWS::Lambda::Function", "&a Role: r"),
            format!("Description: !Join [-, [a, b]]\n{}", resource("AWS::Lambda::Function", "Code: src")),
        ];
        let told: Vec<String> = all.iter().map(|template| problems(template)).collect();
        insta::assert_snapshot!(told.join("\n\n"));
    }

    #[test]
    fn one_file_may_be_several_objects_and_links_are_where_they_stand() {
        let folder = application();
        let template = "Resources:\n  F: {Type: AWS::Lambda::Function, Properties: {Code: src.zip}}\n  \
                        B: {Type: AWS::ElasticBeanstalk::ApplicationVersion, Properties: {SourceBundle: app.jar}}\n  \
                        L: {Type: AWS::Lambda::LayerVersion, Properties: {Content: app.jar}}\n  \
                        A: {Type: AWS::CloudFormation::Stack, Properties: {TemplateURL: one/t.yaml}}\n  \
                        C: {Type: AWS::CloudFormation::Stack, Properties: {TemplateURL: two/t.yaml}}\n";
        let zip = Packaging::default().package(&folder.path().join("src"), &[], &[]).unwrap().bytes;
        fs::write(folder.path().join("src.zip"), &zip).unwrap();
        fs::write(folder.path().join("app.jar"), &zip).unwrap();
        fs::write(
            folder.path().join("nested.yaml"),
            "Resources: {F: {Type: AWS::Lambda::Function, Properties: {Code: c.py}}}",
        )
        .unwrap();
        for name in ["one", "two"] {
            fs::create_dir(folder.path().join(name)).unwrap();
            std::os::unix::fs::symlink("../nested.yaml", folder.path().join(name).join("t.yaml")).unwrap();
            fs::write(folder.path().join(name).join("c.py"), name).unwrap();
        }
        let packed = pack(folder.path(), template);
        let mut texts = vec![packed.template];
        texts.extend(packed.objects.values().map(|object| String::from_utf8_lossy(&object.archive.bytes).into_owned()));
        let keys: Vec<&str> = packed.objects.values().map(|object| object.key.as_str()).collect();
        for text in &texts {
            for key in text.split("P/shared/app/").skip(1) {
                let key = key.split(['}', ',', '\n']).next().unwrap();
                assert!(keys.contains(&format!("P/shared/app/{key}").as_str()), "{key} is named and not there");
            }
        }
        assert_eq!(packed.objects.len(), 7, "{:?}", packed.objects.keys());
    }

    #[test]
    fn the_configuration_is_in_no_artifact() {
        let folder = application();
        fs::write(folder.path().join("tenantry.yaml"), "secret").unwrap();
        let template = "Resources: {F: {Type: AWS::Lambda::Function, Properties: {Code: .}}}";
        let (sources, _) = read(folder.path(), template);
        let places = Places { bucket: "b", folder: "f", url: &|_| String::new() };
        let packaging = Packaging { leave_out: vec![folder.path().join("tenantry.yaml")], ..Packaging::default() };
        let packed = sources.pack(&packaging, &places).unwrap();
        let names: Vec<&str> = packed.objects["./"].archive.largest.iter().map(|(name, _)| name.as_str()).collect();
        assert!(!names.contains(&"tenantry.yaml") && packed.objects["./"].archive.entries == 7, "{names:?}");
    }

    #[test]
    fn code_beyond_lambdas_limit_is_refused_with_its_largest_entries() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("src")).unwrap();
        // Files with nothing in them take no time to compress.
        for (name, size) in [("a.bin", 200 << 20), ("b.bin", 60 << 20), ("c.py", 3)] {
            fs::File::create(folder.path().join("src").join(name)).unwrap().set_len(size).unwrap();
        }
        let template = "Resources: {F: {Type: AWS::Lambda::Function, Properties: {Code: src}}}";
        let (sources, problems) = read(folder.path(), template);
        assert!(problems.is_empty());
        let places = Places { bucket: "b", folder: "f", url: &|_| String::new() };
        let error = sources.pack(&Packaging::default(), &places).unwrap_err().to_string();
        let expected =
            "src has 260 MB unzipped, and Lambda takes 250 MB; the largest: a.bin (200 MB), b.bin (60 MB), c.py (0 MB)";
        assert!(error.ends_with(expected), "{error}");
    }
}
