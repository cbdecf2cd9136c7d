//! Covering secrets, so that a plan can be compared but not read.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::LazyLock;

use fancy_regex::Regex;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;

use crate::domain::{Change, ParameterValue};

/// What a covered value begins with.
pub const COVERED: &str = "hmac-sha256:";

/// Shorter values are no secrets, and would be found everywhere.
const SHORTEST: usize = 4;

/// Properties and environment variables whose names say that their value is a secret; not those that only name one.
static SECRET_NAME: LazyLock<Regex> = LazyLock::new(|| {
    let kinds =
        "passw(or)?d|passphrase|secret|token|api[_-]?key|private[_-]?key|access[_-]?key|credential|signing[_-]?key";
    let only_names = "(arn|id|ids|name|type|validity|units?|ttl|expiry|algorithm|version|enabled|policy|length)$";
    Regex::new(&format!("(?i)^(?!.*{only_names}).*({kinds})")).expect("the pattern is constant")
});

/// Knows which parameters are secret, and the application's key: values are hashed under it, records are sealed.
#[derive(Clone, Default)]
pub struct Secrets {
    names: BTreeSet<String>,
    key: Vec<u8>,
}

impl Secrets {
    /// Takes the names of secret parameters, and the application's key. Without a key a short secret could be found
    /// by trying.
    pub fn new(names: BTreeSet<String>, key: Vec<u8>) -> Self {
        Self { names, key }
    }

    /// Returns parameters as they may be shown and kept: the secret ones by their keyed hash.
    pub fn cover_parameters(&self, parameters: &BTreeMap<String, ParameterValue>) -> BTreeMap<String, ParameterValue> {
        let covered = |(name, value): (&String, &ParameterValue)| {
            let value = match value {
                // A reference names a secret and is none.
                ParameterValue::Text(text) if self.names.contains(name) && !is_reference(text) => {
                    ParameterValue::Text(self.cover(name, text))
                }
                other => other.clone(),
            };
            (name.clone(), value)
        };
        parameters.iter().map(covered).collect()
    }

    /// Returns changes as they may be shown and kept: without the values of properties whose names say that they are
    /// secret, and without those of the target's secret parameters, wherever they stand.
    pub fn cover_changes(&self, parameters: &BTreeMap<String, ParameterValue>, changes: Vec<Change>) -> Vec<Change> {
        let known: Vec<(&str, &str)> = parameters
            .iter()
            .filter(|(name, _)| self.names.contains(*name))
            .filter_map(|(name, value)| Some((name.as_str(), value.text()?)))
            .filter(|(_, value)| value.len() >= SHORTEST && !is_reference(value))
            .collect();
        let cover = |path: &str, value: String| {
            let mut value = self.cover_property(path, value);
            for (name, secret) in &known {
                if value.contains(secret) {
                    value = value.replace(secret, &self.cover(name, secret));
                }
            }
            value
        };
        let mut changes = changes;
        for detail in changes.iter_mut().flat_map(|change| &mut change.details) {
            detail.before = detail.before.take().map(|value| cover(&detail.path, value));
            detail.after = detail.after.take().map(|value| cover(&detail.path, value));
        }
        changes
    }

    /// Covers a property's value, or what is secret within a JSON object.
    fn cover_property(&self, path: &str, value: String) -> String {
        let name = path.rsplit('/').next().unwrap_or_default();
        if is_secret(name, &value) {
            return self.cover(path, &value);
        }
        let Ok(mut json) = serde_json::from_str::<Value>(&value) else { return value };
        if self.cover_json(path, &mut json) { json.to_string() } else { value }
    }

    /// Covers strings below keys that name a secret, and tells whether there were any.
    fn cover_json(&self, path: &str, json: &mut Value) -> bool {
        let mut covered = false;
        match json {
            Value::Object(map) => {
                // A list of names and values, as ECS has for the environment of a container.
                let named = map.get("Name").or(map.get("Key")).and_then(Value::as_str).map(str::to_owned);
                for (key, value) in map.iter_mut() {
                    let name = if key == "Value" { named.as_deref().unwrap_or(key) } else { key };
                    match value {
                        Value::String(text) if is_secret(name, text) => {
                            *text = self.cover(&format!("{path}/{name}"), text);
                            covered = true;
                        }
                        other => covered |= self.cover_json(&format!("{path}/{key}"), other),
                    }
                }
            }
            Value::Array(list) => {
                for value in list {
                    covered |= self.cover_json(path, value);
                }
            }
            _ => {}
        }
        covered
    }

    /// Returns the keyed hash of a value.
    fn cover(&self, name: &str, value: &str) -> String {
        format!("{COVERED}{}", self.hash(&[name.as_bytes(), &[0], value.as_bytes()]))
    }

    /// Returns the seal of a record: whoever edits it without the application's key leaves a seal that does not fit.
    pub fn seal(&self, record: &[u8]) -> String {
        format!("{COVERED}{}", self.hash(&[b"record\0", record]))
    }

    fn hash(&self, parts: &[&[u8]]) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes keys of any length (RFC 2104)");
        for part in parts {
            mac.update(part);
        }
        hex::encode(mac.finalize().into_bytes())
    }
}

fn is_reference(text: &str) -> bool {
    text.starts_with("{{resolve:") && text.ends_with("}}")
}

/// Tells whether a property of that name has a secret for a value. What CloudFormation has covered, and what only
/// refers to a secret, is none.
fn is_secret(name: &str, value: &str) -> bool {
    let is_value = !value.is_empty() && value != "****" && !is_reference(value) && !value.starts_with("arn:");
    let is_container = value.starts_with(['{', '[']);
    is_value && !is_container && SECRET_NAME.is_match(name).unwrap_or(true)
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets").field("names", &self.names).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::change;
    use super::*;
    use crate::domain::{PropertyChange, Replacement};

    fn secrets(key: &[u8]) -> Secrets {
        Secrets::new(BTreeSet::from(["Password".to_owned()]), key.to_vec())
    }

    #[test]
    fn a_secret_is_covered_and_others_are_not() {
        let cover = |key: &[u8], value: &str| {
            let parameters =
                BTreeMap::from([("Name".to_owned(), "open".into()), ("Password".to_owned(), value.into())]);
            let covered = secrets(key).cover_parameters(&parameters);
            assert_eq!(covered["Name"].text(), Some("open"));
            covered["Password"].text().unwrap().to_owned()
        };
        let covered = cover(b"key", "hunter2");
        assert!(covered.starts_with(COVERED) && !covered.contains("hunter2"));
        assert_eq!(covered, cover(b"key", "hunter2"));
        assert_ne!(covered, cover(b"key", "hunter3"));
        assert_ne!(covered, cover(b"other", "hunter2"));
        let reference = "{{resolve:secretsmanager:db:SecretString:password}}";
        assert_eq!(cover(b"key", reference), reference);
        let shown = format!("{:?}", secrets(b"key"));
        assert!(!shown.contains("107"), "the key must not be shown: {shown}");
    }

    #[test]
    fn secrets_in_property_values_are_covered() {
        let covered = |path: &str, value: &str| {
            let mut changed = change("A");
            changed.details = vec![PropertyChange {
                path: path.into(),
                before: None,
                after: Some(value.into()),
                is_dynamic: false,
                replacement: Replacement::Never,
                cause: String::new(),
            }];
            let parameters = BTreeMap::from([("Password".to_owned(), "hunter2".into())]);
            let changes = secrets(b"key").cover_changes(&parameters, vec![changed]);
            changes[0].details[0].after.clone().unwrap()
        };
        for (path, value) in [
            ("/Properties/MasterUserPassword", "s3cret"),
            ("/Properties/Environment/Variables/API_KEY", "s3cret"),
            ("/Properties/Environment/Variables/DbToken", "s3cret"),
            ("/Properties/Environment/Variables", r#"{"DB_PASSWORD":"s3cret","X":"y"}"#),
            ("/Properties/ContainerDefinitions", r#"[{"Environment":[{"Name":"API_TOKEN","Value":"s3cret"}]}]"#),
            ("/Properties/Url", "postgres://user:hunter2@db"),
        ] {
            let shown = covered(path, value);
            assert!(
                !shown.contains("s3cret") && !shown.contains("hunter2") && shown.contains(COVERED),
                "{path}: {shown}"
            );
        }
        for (path, value) in [
            ("/Properties/Environment/Variables/SECRET_ARN", "arn:aws:x"),
            ("/Properties/MasterUserPassword", "****"),
            ("/Properties/MasterUserPassword", "{{resolve:ssm-secure:x}}"),
            ("/Properties/MemorySize", "512"),
            ("/Properties/SecretName", "db"),
            ("/Properties/AccessTokenValidity", "60"),
        ] {
            assert_eq!(covered(path, value), value);
        }
    }
}
