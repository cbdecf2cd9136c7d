//! What has to be known of a template before it is sent: its parameters and their rules.

use std::collections::{BTreeMap, BTreeSet};

use fancy_regex::Regex;
use serde_yaml::Value;

use crate::domain::Target;

/// A template, read as far as a release needs it.
#[derive(Debug, Default)]
pub struct Template {
    /// Its parameters by name.
    pub parameters: BTreeMap<String, Parameter>,
    /// The names of its outputs.
    pub outputs: BTreeSet<String>,
    /// The number of its resources.
    pub resources: usize,
    /// Whether macros or SAM expand it.
    pub transformed: bool,
    /// The macros that expand all of it, by their names.
    pub transforms: Vec<String>,
    /// Whether it has nested stacks, or may have them once it is expanded.
    pub nested: bool,
}

/// A template parameter.
/// Source: <https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/parameters-section-structure.html>
#[derive(Debug, Default)]
pub struct Parameter {
    /// Its type, as `String` or `List<Number>`.
    pub kind: String,
    /// Whether it may be left out.
    pub has_default: bool,
    /// Whether its value is a secret.
    pub no_echo: bool,
    allowed_values: Vec<String>,
    allowed_pattern: Option<Pattern>,
    constraint: Option<String>,
    length: (Option<f64>, Option<f64>),
    range: (Option<f64>, Option<f64>),
}

/// CloudFormation matches the whole value, of a list each item, with Java's syntax. A pattern that this machine cannot read is
/// left to CloudFormation.
#[derive(Debug)]
struct Pattern {
    text: String,
    regex: Option<Regex>,
}

impl Pattern {
    fn new(text: String) -> Self {
        Self { regex: Regex::new(&format!("^(?:{text})$")).ok(), text }
    }

    fn fits(&self, item: &str) -> bool {
        self.regex.as_ref().is_none_or(|regex| regex.is_match(item).unwrap_or(true))
    }
}

/// CloudFormation's limit on a parameter's value.
const MAX_VALUE: usize = 4096;

impl Template {
    /// Reads a template in YAML or JSON.
    ///
    /// # Errors
    ///
    /// Says why the text is not a template.
    pub fn parse(text: &str) -> Result<Self, String> {
        let root: Value = serde_yaml::from_str(text).map_err(|error| error.to_string())?;
        let section = |name: &str| root.get(name).and_then(Value::as_mapping);
        let resources = section("Resources").filter(|resources| !resources.is_empty()).ok_or("it has no Resources")?;
        let parameters = section("Parameters").into_iter().flatten();
        let transforms = match root.get("Transform") {
            Some(Value::Sequence(list)) => list.as_slice(),
            Some(one) => std::slice::from_ref(one),
            None => &[],
        };
        Ok(Self {
            transforms: transforms.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect(),
            parameters: parameters
                .filter_map(|(name, value)| Some((name.as_str()?.to_owned(), Parameter::read(value))))
                .collect(),
            outputs: section("Outputs")
                .into_iter()
                .flatten()
                .filter_map(|(name, _)| Some(name.as_str()?.to_owned()))
                .collect(),
            resources: resources.len(),
            transformed: root.get("Transform").is_some(),
            // A transform may bring nested stacks along.
            nested: root.get("Transform").is_some()
                || resources.values().any(|resource| {
                    let kind = resource.get("Type").and_then(Value::as_str);
                    matches!(kind, Some("AWS::CloudFormation::Stack" | "AWS::Serverless::Application"))
                }),
        })
    }

    /// Leaves out of targets' parameters those that this template does not have, and returns their names.
    ///
    /// # Errors
    ///
    /// Says which parameter of the template has no value, or one that it refuses.
    pub fn fit(&self, targets: &mut [Target]) -> Result<BTreeSet<String>, String> {
        let mut unknown = BTreeSet::new();
        for target in targets {
            unknown.extend(target.parameters.keys().filter(|name| !self.parameters.contains_key(*name)).cloned());
            target.parameters.retain(|name, _| self.parameters.contains_key(name));
            for (name, parameter) in &self.parameters {
                let why = match target.parameters.get(name) {
                    None if parameter.has_default => continue,
                    None => "has no default and no value".to_owned(),
                    Some(value) => match value.text().and_then(|value| parameter.refuses(value)) {
                        Some(why) => format!("is refused: {why}"),
                        None => continue,
                    },
                };
                return Err(format!("{}: parameter `{name}` of the release's template {why}", target.id));
            }
        }
        Ok(unknown)
    }

    /// Returns the names of the parameters whose values are secret.
    pub fn no_echo(&self) -> BTreeSet<String> {
        self.parameters.iter().filter(|(_, parameter)| parameter.no_echo).map(|(name, _)| name.clone()).collect()
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        _ => None,
    }
}

impl Parameter {
    fn read(value: &Value) -> Self {
        let field = |name: &str| value.get(name);
        let string = |name: &str| field(name).and_then(text);
        let number = |name: &str| string(name).and_then(|text| text.parse().ok());
        Self {
            kind: string("Type").unwrap_or_else(|| "String".to_owned()),
            has_default: field("Default").is_some(),
            no_echo: string("NoEcho").is_some_and(|text| text == "true"),
            allowed_values: field("AllowedValues")
                .and_then(Value::as_sequence)
                .into_iter()
                .flatten()
                .filter_map(text)
                .collect(),
            allowed_pattern: string("AllowedPattern").map(Pattern::new),
            constraint: string("ConstraintDescription"),
            length: (number("MinLength"), number("MaxLength")),
            range: (number("MinValue"), number("MaxValue")),
        }
    }

    /// Says what is wrong with a value, if CloudFormation would refuse it.
    ///
    /// Dynamic references and SSM parameter types name a value that only CloudFormation will see; they are not
    /// judged. A secret is not repeated in the answer.
    pub fn refuses(&self, value: &str) -> Option<String> {
        if value.len() > MAX_VALUE {
            return Some(format!("its value has {} bytes, {MAX_VALUE} are allowed", value.len()));
        }
        if value.starts_with("{{resolve:") || self.kind.starts_with("AWS::SSM::") {
            return None;
        }
        let shown = if self.no_echo { "its value".to_owned() } else { format!("`{value}`") };
        let is_list = self.kind == "CommaDelimitedList" || self.kind.starts_with("List<");
        let items: Vec<&str> = if is_list { value.split(',').map(str::trim).collect() } else { vec![value] };
        let is_number = matches!(self.kind.as_str(), "Number" | "List<Number>");
        if is_number && items.iter().any(|item| item.parse::<f64>().is_err()) {
            return Some(format!("{shown} is not a number"));
        }
        if !self.allowed_values.is_empty()
            && items.iter().any(|item| !self.allowed_values.iter().any(|allowed| allowed == item))
        {
            return Some(format!("{shown} is not one of {}", self.allowed_values.join(", ")));
        }
        if let Some(pattern) =
            self.allowed_pattern.as_ref().filter(|pattern| !items.iter().all(|item| pattern.fits(item)))
        {
            let why = self.constraint.as_ref().map(|text| format!(": {text}")).unwrap_or_default();
            return Some(format!("{shown} does not match {}{why}", pattern.text));
        }
        #[allow(clippy::cast_precision_loss, reason = "a length is at most 4096")]
        let length = value.chars().count() as f64;
        if !is_list && !is_number && outside(length, self.length) {
            return Some(format!("{shown} has {length} characters, {} are allowed", bounds(self.length)));
        }
        let out_of_range = |item: &&str| item.parse().is_ok_and(|number| outside(number, self.range));
        if is_number && items.iter().any(out_of_range) {
            return Some(format!("{shown} is not within {}", bounds(self.range)));
        }
        None
    }
}

fn outside(number: f64, (least, most): (Option<f64>, Option<f64>)) -> bool {
    least.is_some_and(|least| number < least) || most.is_some_and(|most| number > most)
}

fn bounds((least, most): (Option<f64>, Option<f64>)) -> String {
    match (least, most) {
        (Some(least), Some(most)) => format!("{least} to {most}"),
        (Some(least), None) => format!("{least} and more"),
        (None, Some(most)) => format!("at most {most}"),
        (None, None) => "any".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEMPLATE: &str = "
Transform: AWS::Serverless-2016-10-31
Parameters:
  Name: {Type: String, AllowedPattern: '[a-z]+', ConstraintDescription: lowercase only, MaxLength: 5}
  Size: {Type: Number, MinValue: 1, MaxValue: 10, Default: 3}
  Ring: {Type: String, AllowedValues: [a, b]}
  Zones: {Type: CommaDelimitedList, AllowedPattern: '[a-z]'}
  Password: {Type: String, NoEcho: true, MinLength: 8}
  Image: {Type: 'AWS::SSM::Parameter::Value<String>'}
Resources:
  F: {Type: AWS::Serverless::Function, Properties: {CodeUri: src/, Role: !GetAtt R.Arn}}
Outputs:
  Url: {Value: !Sub 'https://${F}'}
";

    #[test]
    fn parameters_are_read_with_their_rules() {
        let template = Template::parse(TEMPLATE).unwrap();
        assert!(template.transformed && template.resources == 1 && template.outputs.contains("Url"));
        assert_eq!(template.no_echo(), BTreeSet::from(["Password".to_owned()]));
        let verdict = |name: &str, value: &str| template.parameters[name].refuses(value);
        for (name, right) in [
            ("Name", "abc"),
            ("Size", "10"),
            ("Ring", "a"),
            ("Zones", "x, y"),
            ("Image", "/a/b"),
            ("Size", "{{resolve:ssm:x}}"),
        ] {
            assert_eq!(verdict(name, right), None, "{name}={right}");
        }
        assert_eq!(verdict("Name", "ABC").unwrap(), "`ABC` does not match [a-z]+: lowercase only");
        assert_eq!(verdict("Name", "abcdef").unwrap(), "`abcdef` has 6 characters, at most 5 are allowed");
        assert_eq!(verdict("Size", "x").unwrap(), "`x` is not a number");
        assert_eq!(verdict("Size", "11").unwrap(), "`11` is not within 1 to 10");
        assert_eq!(verdict("Zones", "x,YY").unwrap(), "`x,YY` does not match [a-z]");
        assert_eq!(verdict("Ring", "c").unwrap(), "`c` is not one of a, b");
        assert_eq!(verdict("Password", "hunter2").unwrap(), "its value has 7 characters, 8 and more are allowed");
    }

    #[test]
    fn what_is_no_template_is_told() {
        assert_eq!(Template::parse("Resources: {}").unwrap_err(), "it has no Resources");
        assert!(Template::parse("a: [").is_err());
    }
}
