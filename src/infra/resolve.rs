//! What a template comes to for given parameters: enough of CloudFormation's functions for the templates of `infra/`,
//! and an error for every other.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Map, Value, json};
use serde_yaml::Value as Yaml;

/// Where a template is resolved, and with which parameters.
#[derive(Debug, Clone)]
pub struct Setting {
    /// The account of the stack.
    pub account: String,
    /// Its region.
    pub region: String,
    /// Parameters by name; the others have their defaults. Lists are joined by commas.
    pub parameters: BTreeMap<String, String>,
}

/// The resources of a stack, by their logical ids, with all functions replaced.
pub type Resolved = BTreeMap<String, Value>;

/// Resolves a template.
///
/// # Errors
///
/// Says what in it is not understood: a function that is not known here, a name that nothing has.
pub fn resolve(template: &str, setting: &Setting) -> Result<Resolved, String> {
    let yaml: Yaml = serde_yaml::from_str(template).map_err(|error| error.to_string())?;
    let template = plain(yaml)?;
    let resolver = Resolver { template: &template, setting };
    let mut resources = Resolved::new();
    for (name, resource) in template["Resources"].as_object().into_iter().flatten() {
        if let Some(condition) = resource["Condition"].as_str()
            && !resolver.condition(condition)?
        {
            continue;
        }
        let properties = resolver.value(&resource["Properties"])?.unwrap_or(Value::Null);
        resources.insert(name.clone(), json!({ "Type": resource["Type"], "Properties": properties }));
    }
    Ok(resources)
}

/// Writes short tags out: `!Ref X` becomes `{"Ref": "X"}`.
fn plain(yaml: Yaml) -> Result<Value, String> {
    Ok(match yaml {
        Yaml::Tagged(tagged) => {
            let tag = tagged.tag.to_string();
            let value = plain(tagged.value)?;
            match tag.trim_start_matches('!') {
                "Ref" => json!({ "Ref": value }),
                "Condition" => json!({ "Condition": value }),
                "GetAtt" => {
                    let (name, attribute) =
                        value.as_str().and_then(|text| text.split_once('.')).ok_or("!GetAtt A.B")?;
                    json!({ "Fn::GetAtt": [name, attribute] })
                }
                name => Value::Object(Map::from_iter([(format!("Fn::{name}"), value)])),
            }
        }
        Yaml::Sequence(list) => Value::Array(list.into_iter().map(plain).collect::<Result<_, _>>()?),
        Yaml::Mapping(map) => {
            let entry = |(key, value): (Yaml, Yaml)| {
                let key = key.as_str().ok_or("a key that is no text")?.to_owned();
                Ok::<_, String>((key, plain(value)?))
            };
            Value::Object(map.into_iter().map(entry).collect::<Result<_, _>>()?)
        }
        other => serde_json::to_value(other).map_err(|error| error.to_string())?,
    })
}

struct Resolver<'a> {
    template: &'a Value,
    setting: &'a Setting,
}

impl Resolver<'_> {
    /// Returns a value without functions; none where it is `AWS::NoValue`.
    fn value(&self, value: &Value) -> Result<Option<Value>, String> {
        Ok(Some(match value {
            Value::Object(map) => {
                if let (1, Some((name, argument))) = (map.len(), map.iter().next())
                    && (name == "Ref" || name.starts_with("Fn::"))
                {
                    return self.function(name, argument);
                }
                let mut resolved = Map::new();
                for (key, value) in map {
                    if let Some(value) = self.value(value)? {
                        resolved.insert(key.clone(), value);
                    }
                }
                // A condition operator that has lost all its keys asks for nothing.
                resolved.retain(|_, value| value != &json!({}));
                Value::Object(resolved)
            }
            Value::Array(list) => {
                let mut resolved = Vec::new();
                for value in list {
                    resolved.extend(self.value(value)?);
                }
                Value::Array(resolved)
            }
            other => other.clone(),
        }))
    }

    fn function(&self, name: &str, argument: &Value) -> Result<Option<Value>, String> {
        Ok(Some(match name {
            "Ref" => match argument.as_str() {
                Some("AWS::NoValue") => return Ok(None),
                Some(name) => self.reference(name)?,
                None => return Err("Ref wants a name".to_owned()),
            },
            "Fn::GetAtt" => {
                let part = |number: usize| argument[number].as_str().unwrap_or_default();
                Value::String(self.attribute(part(0), part(1))?)
            }
            "Fn::Sub" => Value::String(self.substitute(argument.as_str().ok_or("Fn::Sub wants a text")?)?),
            "Fn::If" => {
                let condition = argument[0].as_str().ok_or("Fn::If wants a condition")?;
                return self.value(&argument[if self.condition(condition)? { 1 } else { 2 }]);
            }
            "Fn::Join" => {
                let list = self.value(&argument[1])?.unwrap_or_default();
                let texts: Vec<&str> = list.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
                Value::String(texts.join(argument[0].as_str().unwrap_or_default()))
            }
            "Fn::Equals" => {
                let side = |number: usize| self.value(&argument[number]);
                Value::Bool(side(0)? == side(1)?)
            }
            "Fn::Not" => Value::Bool(self.value(&argument[0])? != Some(Value::Bool(true))),
            other => return Err(format!("{other} is not known here")),
        }))
    }

    fn condition(&self, name: &str) -> Result<bool, String> {
        let condition = &self.template["Conditions"][name];
        if condition.is_null() {
            return Err(format!("there is no condition {name}"));
        }
        Ok(self.value(condition)? == Some(Value::Bool(true)))
    }

    fn reference(&self, name: &str) -> Result<Value, String> {
        let parameter = &self.template["Parameters"][name];
        if !parameter.is_null() {
            let given = self.setting.parameters.get(name).map(String::as_str);
            let text = given.or(parameter["Default"].as_str()).ok_or_else(|| format!("no value for {name}"))?;
            let is_list = parameter["Type"].as_str().is_some_and(|kind| kind == "CommaDelimitedList");
            // An empty text is a list of one empty text, as CloudFormation has it.
            return Ok(if is_list { text.split(',').map(str::trim).collect() } else { text.into() });
        }
        let Setting { account, region, .. } = self.setting;
        Ok(Value::String(match name {
            "AWS::AccountId" => account.clone(),
            "AWS::Region" => region.clone(),
            "AWS::Partition" => "aws".to_owned(),
            "AWS::URLSuffix" => "amazonaws.com".to_owned(),
            _ => match self.resource(name)? {
                ("AWS::S3::Bucket", properties) => self.text(&properties["BucketName"])?,
                ("AWS::IAM::ManagedPolicy", _) => self.attribute(name, "Arn")?,
                ("AWS::IAM::Role", properties) => self.text(&properties["RoleName"])?,
                _ => name.to_owned(),
            },
        }))
    }

    fn attribute(&self, name: &str, attribute: &str) -> Result<String, String> {
        let Setting { account, region, .. } = self.setting;
        let path = |properties: &Value| properties["Path"].as_str().unwrap_or("/").to_owned();
        match (self.resource(name)?, attribute) {
            (("AWS::S3::Bucket", properties), "Arn") => {
                Ok(format!("arn:aws:s3:::{}", self.text(&properties["BucketName"])?))
            }
            (("AWS::KMS::Key", _), "Arn") => Ok(format!("arn:aws:kms:{region}:{account}:key/{name}")),
            (("AWS::IAM::Role", properties), "Arn") => {
                Ok(format!("arn:aws:iam::{account}:role{}{}", path(properties), self.text(&properties["RoleName"])?))
            }
            (("AWS::IAM::ManagedPolicy", properties), "Arn") => {
                let name = self.text(&properties["ManagedPolicyName"])?;
                Ok(format!("arn:aws:iam::{account}:policy{}{name}", path(properties)))
            }
            (("AWS::Logs::LogGroup", properties), "Arn") => {
                Ok(format!("arn:aws:logs:{region}:{account}:log-group:{}:*", self.text(&properties["LogGroupName"])?))
            }
            (("AWS::CodeBuild::Project", properties), "Arn") => {
                Ok(format!("arn:aws:codebuild:{region}:{account}:project/{}", self.text(&properties["Name"])?))
            }
            _ => Err(format!("{name} has no {attribute} here")),
        }
    }

    fn resource(&self, name: &str) -> Result<(&str, &Value), String> {
        let resource = &self.template["Resources"][name];
        let kind = resource["Type"].as_str().ok_or_else(|| format!("nothing is called {name}"))?;
        Ok((kind, &resource["Properties"]))
    }

    fn text(&self, value: &Value) -> Result<String, String> {
        let value = self.value(value)?;
        value.as_ref().and_then(Value::as_str).map(str::to_owned).ok_or_else(|| format!("{value:?} is no text"))
    }

    /// Replaces `${Name}` and `${Name.Attribute}`; `${!Name}` stands for `${Name}`.
    fn substitute(&self, text: &str) -> Result<String, String> {
        let (mut out, mut rest) = (String::new(), text);
        while let Some((before, after)) = rest.split_once("${") {
            let (name, after) = after.split_once('}').ok_or_else(|| format!("{text}: a brace is open"))?;
            out.push_str(before);
            match (name.strip_prefix('!'), name.split_once('.')) {
                (Some(literal), _) => _ = write!(out, "${{{literal}}}"),
                (None, Some((resource, attribute))) => out.push_str(&self.attribute(resource, attribute)?),
                (None, None) => out.push_str(&self.text(&json!({ "Ref": name }))?),
            }
            rest = after;
        }
        Ok(out + rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_replaced_and_what_is_not_known_is_an_error() {
        let template = r#"
Parameters:
  Name: { Type: String, Default: x }
  Accounts: { Type: CommaDelimitedList, Default: "" }
Conditions:
  Has: !Not [!Equals [!Join ["", !Ref Accounts], ""]]
Resources:
  B:
    Type: AWS::S3::Bucket
    Properties:
      BucketName: !Sub "${Name}-${AWS::AccountId}-${!aws:PrincipalAccount}"
      List: !If [Has, !Ref Accounts, !Ref "AWS::NoValue"]
      Arn: !GetAtt B.Arn
"#;
        let setting = |accounts: &str| Setting {
            account: "111111111111".into(),
            region: "eu-west-1".into(),
            parameters: BTreeMap::from([("Accounts".to_owned(), accounts.to_owned())]),
        };
        let with = resolve(template, &setting("1, 2")).unwrap();
        assert_eq!(with["B"]["Properties"]["List"], json!(["1", "2"]));
        assert_eq!(with["B"]["Properties"]["Arn"], "arn:aws:s3:::x-111111111111-${aws:PrincipalAccount}");
        assert_eq!(resolve(template, &setting("")).unwrap()["B"]["Properties"]["List"], Value::Null);
        let unknown = template.replace("!GetAtt B.Arn", "!Select [0, [a]]");
        assert_eq!(resolve(&unknown, &setting("")).unwrap_err(), "Fn::Select is not known here");
    }
}
