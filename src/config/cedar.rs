//! What Cedar says of the policy stores in a template, before they reach a tenant: Verified Permissions refuses what
//! does not fit its schema, and would do so in every account.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use cedar_policy::{
    EntityId, EntityTypeName, EntityUid, Policy, PolicyId, PolicySet, Schema, SlotId, Template,
    TemplatePrincipalConstraint, TemplateResourceConstraint, ValidationMode, Validator,
};
use miette::Diagnostic;

use crate::source::yaml::{Id, Kind, Style, Tree};
use crate::source::{Document, Problem};

const STORE: &str = "AWS::VerifiedPermissions::PolicyStore";
const POLICY: &str = "AWS::VerifiedPermissions::Policy";
const TEMPLATE: &str = "AWS::VerifiedPermissions::PolicyTemplate";

/// Namespaces that are Verified Permissions' own.
/// Source: <https://docs.aws.amazon.com/verifiedpermissions/latest/userguide/terminology-differences-avp-cedar.html>
const RESERVED: [&str; 3] = ["aws", "amazon", "cedar"];

/// Checks the schemas, policies and policy templates of a template. What functions of CloudFormation's make is not known
/// here, and not looked at.
pub(super) fn check(document: &Document, number: usize) -> Vec<Problem> {
    let mut stores =
        Stores { document, number, validators: BTreeMap::new(), templates: BTreeMap::new(), problems: vec![] };
    for (name, resource) in stores.of_type(STORE) {
        let validator = stores.schema(name, resource);
        stores.validators.insert(name, validator);
    }
    for (name, resource) in stores.of_type(TEMPLATE) {
        stores.template(name, resource);
    }
    for (name, resource) in stores.of_type(POLICY) {
        stores.policy(name, resource);
    }
    stores.problems
}

struct Stores<'a> {
    document: &'a Document,
    number: usize,
    /// What each store validates policies by; none where it does not, or where that is not known.
    validators: BTreeMap<&'a str, Option<Validator>>,
    templates: BTreeMap<&'a str, Template>,
    problems: Vec<Problem>,
}

impl<'a> Stores<'a> {
    fn tree(&self) -> &'a Tree {
        &self.document.tree
    }

    /// Returns the resources of a type, by their names.
    fn of_type(&self, kind: &str) -> Vec<(&'a str, Id)> {
        let tree = self.tree();
        let resources = tree.root().and_then(|root| tree.child(root, "Resources"));
        let all = resources.map(|id| tree.entries(id)).unwrap_or_default();
        let is_wanted = |id: Id| tree.child(id, "Type").and_then(|id| tree.text(id)) == Some(kind);
        all.into_iter().filter(|(_, id)| is_wanted(*id)).collect()
    }

    /// Returns a property of a resource.
    fn property(&self, resource: Id, way: &[&str]) -> Option<Id> {
        let start = self.tree().child(resource, "Properties")?;
        way.iter().try_fold(start, |id, key| self.tree().child(id, key))
    }

    /// Returns a property that is a text as it stands there.
    fn text(&self, resource: Id, way: &[&str]) -> Option<(Id, &'a str)> {
        let id = self.property(resource, way)?;
        Some((id, self.tree().text(id)?))
    }

    /// Tells whether a store has a schema that is not known here: a function makes it, or the properties.
    fn may_be_made(&self, store: Id) -> bool {
        let Some(properties) = self.tree().child(store, "Properties") else { return false };
        let entries = self.tree().entries(properties);
        self.tree().is_tagged(properties)
            || entries.iter().any(|(name, _)| *name == "Schema" || name.starts_with("Fn::"))
    }

    /// Reads a store's schema. Where the store validates nothing, only the form of its policies matters.
    fn schema(&mut self, name: &str, store: Id) -> Option<Validator> {
        let validates = self.text(store, &["ValidationSettings", "Mode"]).is_some_and(|(_, mode)| mode == "STRICT");
        let (id, text) = match self.property(store, &["Schema", "CedarJson"]) {
            None if self.may_be_made(store) => return None,
            // A store without a schema knows no action, so that no policy fits.
            None => (None, "{}"),
            Some(id) => (Some(id), self.tree().text(id)?),
        };
        match schema(text) {
            Ok(schema) => validates.then(|| Validator::new(schema)),
            Err((why, at)) => {
                let place = id.map_or(0..0, |id| {
                    at.and_then(|at| within(self.document, id, at..at + 1)).unwrap_or_else(|| self.document.place(id))
                });
                let problem = Problem::new(format!("the schema of policy store {name}: {why}"));
                self.problems.push(problem.at(self.number, place));
                None
            }
        }
    }

    fn template(&mut self, name: &'a str, resource: Id) {
        let Some((id, text)) = self.text(resource, &["Statement"]) else { return };
        let template = match Template::parse(Some(PolicyId::new(name)), text) {
            Ok(template) => template,
            Err(error) => {
                self.refused(id, &format!("policy template {name}"), error.iter());
                return;
            }
        };
        let is_open = template.principal_constraint() == TemplatePrincipalConstraint::Any
            || template.resource_constraint() == TemplateResourceConstraint::Any;
        if is_open {
            let problem = Problem::new(format!(
                "policy template {name}: Verified Permissions wants both its principal and its resource limited"
            ));
            self.problems.push(problem.at(self.number, self.document.place(id)));
        }
        let mut set = PolicySet::new();
        if set.add_template(template.clone()).is_ok() {
            self.validate(resource, id, &format!("policy template {name}"), &set);
        }
        self.templates.insert(name, template);
    }

    fn policy(&mut self, name: &'a str, resource: Id) {
        let what = format!("policy {name}");
        if let Some((id, text)) = self.text(resource, &["Definition", "Static", "Statement"]) {
            match Policy::parse(Some(PolicyId::new(name)), text) {
                Ok(policy) => {
                    if let Ok(set) = PolicySet::from_policies([policy]) {
                        self.validate(resource, id, &what, &set);
                    }
                }
                Err(error) => self.refused(id, &what, error.iter()),
            }
        }
        let linked = ["Definition", "TemplateLinked", "PolicyTemplateId"];
        let Some(id) = self.property(resource, &linked) else { return };
        self.refers(id, &what, TEMPLATE, "PolicyTemplateId");
        let Some(template) = self.named(id).and_then(|name| self.templates.get(name)).cloned() else { return };
        let slots = [("Principal", SlotId::principal()), ("Resource", SlotId::resource())];
        let mut values = HashMap::new();
        for (key, slot) in slots {
            let part = |part| self.text(resource, &["Definition", "TemplateLinked", key, part]).map(|(_, text)| text);
            let given = self.property(resource, &["Definition", "TemplateLinked", key]);
            match (part("EntityType").map(str::parse::<EntityTypeName>), part("EntityId")) {
                (Some(Ok(kind)), Some(entity)) => {
                    _ = values.insert(slot, EntityUid::from_type_name_and_id(kind, EntityId::new(entity)));
                }
                (Some(Err(error)), _) => {
                    self.refused(given.unwrap_or(id), &what, error.iter());
                    return;
                }
                // It is made by a function.
                _ if given.is_some() => return,
                _ => {}
            }
        }
        let mut set = PolicySet::new();
        if set.add_template(template.clone()).is_err() {
            return;
        }
        match set.link(template.id().clone(), PolicyId::new(name), values) {
            Ok(()) => self.validate(resource, id, &what, &set),
            Err(error) => self.refused(id, &what, std::iter::once(&error)),
        }
    }

    /// Tells a reference to something else than an id: only of a store, Ref returns that.
    /// Sources: <https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-verifiedpermissions-policystore.html>
    /// and, of templates, the same page's sibling.
    fn refers(&mut self, id: Id, what: &str, kind: &str, attribute: &str) {
        let Some((name, asked)) = self.reference(id) else { return };
        if !self.of_type(kind).iter().any(|(known, _)| *known == name) {
            return;
        }
        let is_right = asked.map_or(kind == STORE, |asked| asked == attribute);
        if !is_right {
            let problem = Problem::new(format!("{what}: this is not the {attribute} of {name}"));
            let problem = problem.at(self.number, self.document.tree.node(id).value.clone());
            self.problems.push(problem.hint(format!("write !GetAtt {name}.{attribute}")));
        }
    }

    /// Compares policies with the schema of the store that they are for.
    fn validate(&mut self, resource: Id, id: Id, what: &str, set: &PolicySet) {
        let store = self.property(resource, &["PolicyStoreId"]);
        if let Some(store) = store {
            self.refers(store, what, STORE, "PolicyStoreId");
        }
        let store = store.and_then(|id| self.named(id));
        let Some(Some(validator)) = store.and_then(|store| self.validators.get(store)) else { return };
        let result = validator.validate(set, ValidationMode::Strict);
        // The validator tells them in no order.
        let mut errors: Vec<_> = result.validation_errors().collect();
        errors.sort_by_key(ToString::to_string);
        self.refused(id, what, errors.into_iter());
    }

    /// Tells what Cedar says of a text, at the place within it that is meant.
    fn refused<'e, E: Diagnostic + 'e>(&mut self, id: Id, what: &str, errors: impl Iterator<Item = &'e E>) {
        for error in errors {
            let (message, hint) = told(error);
            // Which policy it is stands before it already.
            let message = message
                .strip_prefix("for policy `")
                .and_then(|rest| rest.split_once("`, "))
                .map_or(&*message, |(_, rest)| rest);
            let label = error.labels().and_then(|mut labels| labels.next());
            let place = label
                .and_then(|label| within(self.document, id, label.offset()..label.offset() + label.len()))
                .unwrap_or_else(|| self.document.place(id));
            let problem = Problem::new(format!("{what}: {message}")).at(self.number, place);
            self.problems.push(match hint {
                Some(hint) => problem.hint(hint),
                None => problem,
            });
        }
    }

    /// Returns the resource that a value refers to.
    fn named(&self, id: Id) -> Option<&'a str> {
        Some(self.reference(id)?.0)
    }

    /// Returns the resource that a value refers to and, of a GetAtt, the attribute.
    fn reference(&self, id: Id) -> Option<(&'a str, Option<&'a str>)> {
        let tree = self.tree();
        let node = tree.node(tree.resolve(id));
        let (id, of_attribute) = match (&node.kind, node.tag.as_deref()) {
            (Kind::Mapping { .. }, None) => match tree.child(id, "Ref") {
                Some(id) => (id, false),
                None => (tree.child(id, "Fn::GetAtt")?, true),
            },
            (_, Some("!Ref")) => (id, false),
            (_, Some("!GetAtt")) => (id, true),
            _ => return None,
        };
        let (name, attribute) = match &tree.node(tree.resolve(id)).kind {
            Kind::Scalar(text, _) if of_attribute => text.split_once('.')?,
            Kind::Scalar(text, _) => (text.as_str(), ""),
            Kind::Sequence => (tree.text(tree.child(id, "0")?)?, tree.text(tree.child(id, "1")?)?),
            _ => return None,
        };
        Some((name, of_attribute.then_some(attribute)))
    }
}

/// Reads a schema as Verified Permissions takes it. Of a mistake, its place is returned where it is known.
fn schema(text: &str) -> Result<Schema, (String, Option<usize>)> {
    let unread = |error: serde_json::Error| {
        let line: usize = text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
        let said = error.to_string();
        let said = said.split(" at line ").next().unwrap_or_default();
        (format!("it is not JSON: {said}"), Some(line + error.column().saturating_sub(1)))
    };
    let whole: serde_json::Value = serde_json::from_str(text).map_err(unread)?;
    let nowhere = |why: String| (why, None);
    let Some(namespaces) = whole.as_object() else {
        return Err(nowhere("it is no object with a namespace".to_owned()));
    };
    let mut names = namespaces.keys();
    if let (Some(one), Some(other)) = (names.next(), names.next()) {
        let why = format!("it has the namespaces `{one}` and `{other}`, and Verified Permissions takes one");
        return Err(nowhere(why));
    }
    let is_reserved = |name: &&String| name.split("::").any(|part| RESERVED.contains(&part.to_lowercase().as_str()));
    if let Some(wrong) = namespaces.keys().find(|name| name.is_empty() || is_reserved(name)) {
        return Err(nowhere(format!("`{wrong}` cannot name a namespace in Verified Permissions")));
    }
    Schema::from_json_str(text).map_err(|error| nowhere(told(&error).0))
}

/// Returns what an error says, with its causes on the same line, and what would help.
fn told(error: &dyn Diagnostic) -> (String, Option<String>) {
    let mut message = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let text = cause.to_string();
        if !message.contains(&text) {
            message = format!("{message}: {text}");
        }
        source = cause.source();
    }
    (message, error.help().map(|help| help.to_string()))
}

/// Returns the bytes of a document that are a part of one of its texts: where the text stands there as it is, or line by
/// line.
fn within(document: &Document, id: Id, part: Range<usize>) -> Option<Range<usize>> {
    let node = document.tree.node(document.tree.resolve(id));
    let Kind::Scalar(text, style) = &node.kind else { return None };
    let source = document.text.get(node.value.clone())?;
    if *style != Style::Block {
        let start = node.value.start + source.find(text.as_str())?;
        return Some(start + part.start..start + part.end);
    }
    let before = text.get(..part.start)?;
    let line = before.matches('\n').count();
    let column = before.len() - before.rfind('\n').map_or(0, |at| at + 1);
    let wanted = text.lines().nth(line)?;
    // Its lines come behind the one with `|`, indented.
    let mut at = node.value.start;
    let lines = source.split_inclusive('\n').map(|line| {
        at += line.len();
        (at - line.len(), line.trim_end_matches(['\n', '\r']))
    });
    let (start, found) = lines.skip(usize::from(source.starts_with(['|', '>']))).nth(line)?;
    let indent = found.len().checked_sub(wanted.len()).filter(|_| found.ends_with(wanted))?;
    let length = part.len().min(wanted.len() - column.min(wanted.len()));
    let start = start + indent + column;
    Some(start..start + length)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::source::Problems;

    const SCHEMA: &str = r#"{"App": {
        "entityTypes": {
            "User": {},
            "Document": {"shape": {"type": "Record", "attributes": {"owner": {"type": "Entity", "name": "User"}}}}
        },
        "actions": {"open": {"appliesTo": {"principalTypes": ["User"], "resourceTypes": ["Document"]}}}
    }}"#;
    const SHARE: &str = r#"permit (principal == ?principal, action == App::Action::"open", resource == ?resource);"#;
    const MISSPELT: &str = r#"
permit (
  principal,
  action == App::Action::"opne",
  resource
);"#;

    /// Returns what is told of a store with this schema and these resources.
    fn told_of(schema: &str, mode: &str, resources: &str) -> String {
        let schema = serde_json::Value::from(schema);
        let store = format!("ValidationSettings: {{ Mode: {mode} }}\n      Schema: {{ CedarJson: {schema} }}");
        let text = format!("Resources:\n{}{resources}", resource("Store", STORE, &store));
        let document = Document::new(Path::new("template.yaml"), text);
        assert!(document.unreadable.is_none(), "{:?}", document.unreadable);
        let problems = check(&document, 0);
        anstream::adapter::strip_str(&Problems::new(&[document], problems).to_string()).to_string()
    }

    fn resource(name: &str, kind: &str, properties: &str) -> String {
        format!("  {name}:\n    Type: {kind}\n    Properties:\n      {properties}\n")
    }

    fn policy(definition: &str) -> String {
        resource("Rule", POLICY, &format!("PolicyStoreId: !Ref Store\n      Definition:\n        {definition}"))
    }

    /// A policy whose statement is a block of lines.
    fn rule(statement: &str) -> String {
        policy(&format!("Static:\n          Statement: |\n{}", statement.trim_start().replace('\n', "\n            ")))
            .replace("|\n", "|\n            ")
    }

    fn template(statement: &str) -> String {
        let statement = format!("PolicyStoreId: !GetAtt Store.PolicyStoreId\n      Statement: '{statement}'");
        resource("Share", TEMPLATE, &statement)
    }

    fn linked(values: &str) -> String {
        template(SHARE)
            + &policy(&format!(
                "TemplateLinked: {{ PolicyTemplateId: {{ 'Fn::GetAtt': [Share, PolicyTemplateId] }}, {values} }}"
            ))
    }

    #[test]
    fn policies_that_fit_their_schema_are_well() {
        let owner =
            r#"permit (principal, action == App::Action::"open", resource) when { resource.owner == principal };"#;
        let entities = "Principal: { EntityType: 'App::User', EntityId: ann }, Resource: { EntityType: 'App::Document', EntityId: d }";
        for resources in [rule(owner), template(SHARE), linked(entities)] {
            assert_eq!(told_of(SCHEMA, "STRICT", &resources), "");
        }
        // A store that validates nothing takes all that is Cedar; what a function makes is not known.
        assert_eq!(told_of(SCHEMA, "OFF", &rule(MISSPELT)), "");
        let made =
            r#"Static: { Statement: !Sub 'permit (principal == App::User::"${Admin}", action, resource) wenn' }"#;
        assert_eq!(told_of(SCHEMA, "STRICT", &policy(made)), "");
        for schema in
            ["Schema: !If [Is, { CedarJson: '{}' }, { CedarJson: '{}' }]", "Fn::Transform: { Name: AWS::Include }"]
        {
            let store = format!("ValidationSettings: {{ Mode: STRICT }}\n      {schema}");
            let text = format!("Resources:\n{}{}", resource("Store", STORE, &store), rule(MISSPELT));
            assert!(check(&Document::new(Path::new("template.yaml"), text), 0).is_empty(), "{schema}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_at_its_place() {
        let strict = |resources: &str| told_of(SCHEMA, "STRICT", resources);
        let schema = |schema| told_of(schema, "STRICT", "");
        let told = [
            strict(&rule(MISSPELT)),
            told_of(SCHEMA, "OFF", &rule("permit (\n  principal,\n  action,\n  resource\n) if { true };")),
            strict(&rule("permit (principal, action, resource)\nwhen { resource.type == \"document\" };")),
            strict(&rule(SHARE)),
            strict(&template(r#"permit (principal, action == App::Action::"open", resource == ?resource);"#)),
            strict(&template(r#"permit (principal == App::User::"a", action, resource == App::Document::"d");"#)),
            strict(&linked("Principal: { EntityType: 'App::User', EntityId: ann }")),
            strict(&linked("Principal: { EntityType: 'an user', EntityId: ann }")),
            schema("{"),
            schema("{\n  \"App\": {\n    \"entityTypes\": {},,\n  }\n}"),
            schema("[]"),
            schema(r#"{"AWS::Documents": {"entityTypes": {}, "actions": {}}}"#),
            strict(&rule("permit (principal, action, resource);").replace("!Ref Store", "!GetAtt Store.Arn")),
            strict(&linked("Principal: { EntityType: 'App::User', EntityId: a }, Resource: { EntityType: 'App::Document', EntityId: d }").replace("{ 'Fn::GetAtt': [Share, PolicyTemplateId] }", "!Ref Share")),
            schema(r#"{"A": {"entityTypes": {}, "actions": {}}, "B": {"entityTypes": {}, "actions": {}}}"#),
            schema(r#"{"aws": {"entityTypes": {}, "actions": {}}}"#),
            schema(r#"{"A": {"entityTypes": {"U": {"memberOfTypes": ["Nobody"]}}, "actions": {}}}"#),
        ];
        insta::assert_snapshot!(told.join("\n\n"));
    }
}
