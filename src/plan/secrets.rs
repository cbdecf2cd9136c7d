//! Covering secrets, so that a plan can be compared but not read.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::LazyLock;

use fancy_regex::Regex;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;

use crate::domain::{Change, Masks, ParameterValue, PropertyChange, is_reference};

/// What a covered value begins with.
pub const COVERED: &str = "hmac-sha256:";

/// Properties and environment variables whose names say that their value is a secret; not those that only name one.
static SECRET_NAME: LazyLock<Regex> = LazyLock::new(|| {
    let kinds =
        "passw(or)?d|passphrase|secret|token|api[_-]?key|private[_-]?key|access[_-]?key|credential|signing[_-]?key";
    let only_names = "(arn|id|ids|name|type|validity|units?|ttl|expiry|algorithm|version|enabled|policy|length)$";
    Regex::new(&format!("(?i)^(?!.*{only_names}).*({kinds})")).expect("the pattern is constant")
});

/// What a cause begins with that is a parameter's value.
const PARAMETER: &str = "ParameterReference ";

/// Keys that say which secret is meant, and not what it is.
const NAMING: [&str; 3] = ["Name", "Key", "ValueFrom"];

/// Knows which parameters are secret, their values, and the application's key: values are hashed under it, records are
/// sealed.
#[derive(Clone, Default)]
pub struct Secrets {
    names: BTreeSet<String>,
    values: Masks,
    key: Vec<u8>,
}

impl Secrets {
    /// Takes the names of secret parameters, the values that nobody may read, and the application's key. Without a
    /// key a short secret could be found by trying.
    pub fn new(names: BTreeSet<String>, values: Masks, key: Vec<u8>) -> Self {
        Self { names, values, key }
    }

    /// Takes the key alone, for records without values.
    pub fn sealing(key: Vec<u8>) -> Self {
        Self { key, ..Self::default() }
    }

    /// Returns parameters as they may be shown and kept: the secret ones by their keyed hash.
    pub fn cover_parameters(&self, parameters: &BTreeMap<String, ParameterValue>) -> BTreeMap<String, ParameterValue> {
        let covered = |(name, value): (&String, &ParameterValue)| {
            let value = match value {
                ParameterValue::Text(text) if self.names.contains(name) && !is_reference(text) => {
                    ParameterValue::Text(self.cover(name, text))
                }
                ParameterValue::Text(text) => ParameterValue::Text(self.cover_known(text)),
                ParameterValue::Previous => ParameterValue::Previous,
            };
            (name.clone(), value)
        };
        parameters.iter().map(covered).collect()
    }

    /// Returns a text without the values that nobody may read.
    pub fn cover_known(&self, text: &str) -> String {
        self.values.replace(text, |found| self.cover("text", found))
    }

    /// Returns changes as they may be shown and kept: without the values of properties whose names say that they are
    /// secret, without those that a secret parameter has changed, since the old one is known to nobody here, and
    /// without all known secrets, wherever they stand.
    pub fn cover_changes(&self, mut changes: Vec<Change>) -> Vec<Change> {
        for change in &mut changes {
            let of_secrets: Vec<String> = change
                .details
                .iter()
                .filter(|one| self.is_secret_cause(&one.cause))
                .map(|one| one.path.clone())
                .collect();
            // In a nested stack parameters have other names, and any of them may stand for a secret one.
            let is_nested = change.logical_id.contains('/') && !self.names.is_empty();
            for PropertyChange { path, before, after, cause, .. } in &mut change.details {
                if let Some(before) = before.as_mut().filter(|_| is_nested && cause.starts_with(PARAMETER)) {
                    *before = self.cover_all(path, before);
                }
                let is_secret = of_secrets.iter().any(|other| is_within(path, other) || is_within(other, path));
                for value in [before, after].into_iter().flatten() {
                    *value = if is_secret { self.cover_all(path, value) } else { self.cover_property(path, value) };
                }
            }
        }
        changes
    }

    fn is_secret_cause(&self, cause: &str) -> bool {
        cause.strip_prefix(PARAMETER).is_some_and(|name| self.names.contains(name))
    }

    /// Covers a whole value, unless it holds no secret by its form.
    fn cover_all(&self, path: &str, value: &str) -> String {
        if is_open(value) || value.starts_with(COVERED) { value.to_owned() } else { self.cover(path, value) }
    }

    /// Covers a property's value, or what is secret within it.
    fn cover_property(&self, path: &str, value: &str) -> String {
        let is_secret = path.split('/').any(names_secret);
        let covered = match serde_json::from_str::<Value>(value) {
            Ok(mut json) if json.is_object() || json.is_array() => {
                if self.cover_json(path, &mut json, is_secret) {
                    json.to_string()
                } else {
                    value.to_owned()
                }
            }
            _ if is_secret => self.cover_all(path, value),
            _ => value.to_owned(),
        };
        self.cover_known(&covered)
    }

    /// Covers texts and numbers below keys that name a secret, and tells whether there were any.
    fn cover_json(&self, path: &str, json: &mut Value, is_secret: bool) -> bool {
        let mut covered = false;
        match json {
            Value::Object(map) => {
                // A list of names and values, as ECS has for the environment of a container.
                let named = map.get("Name").or(map.get("Key")).and_then(Value::as_str).map(str::to_owned);
                for (key, value) in map.iter_mut() {
                    let name = if key == "Value" { named.as_deref().unwrap_or(key) } else { key };
                    let inherits = is_secret && !NAMING.contains(&key.as_str());
                    covered |= self.cover_json(&format!("{path}/{name}"), value, inherits || names_secret(name));
                }
            }
            Value::Array(list) => {
                for value in list {
                    covered |= self.cover_json(path, value, is_secret);
                }
            }
            Value::String(text) => {
                let shown = if text.starts_with(['{', '[']) && !is_reference(text) {
                    self.cover_property(path, text)
                } else if is_secret {
                    self.cover_all(path, text)
                } else {
                    text.clone()
                };
                covered = shown != *text;
                *text = shown;
            }
            Value::Number(number) if is_secret => {
                *json = self.cover(path, &number.to_string()).into();
                covered = true;
            }
            Value::Number(_) | Value::Bool(_) | Value::Null => {}
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

/// Tells whether a value is no secret by its form: what CloudFormation has covered, and what only refers to one.
fn is_open(value: &str) -> bool {
    value.is_empty() || value == "****" || is_reference(value) || value.starts_with("arn:")
}

fn names_secret(name: &str) -> bool {
    SECRET_NAME.is_match(name).unwrap_or(true)
}

/// Tells whether a property is another one or a part of it.
fn is_within(path: &str, of: &str) -> bool {
    path.strip_prefix(of).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
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
    use crate::domain::Replacement;

    fn secrets(key: &[u8]) -> Secrets {
        let values = ["hunter2", "hunter2-long", r#"pa"ss-w0rd"#].map(str::to_owned);
        Secrets::new(BTreeSet::from(["Password".to_owned()]), Masks::new(values), key.to_vec())
    }

    fn detail(path: &str, before: &str, after: &str, cause: &str) -> PropertyChange {
        let value = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        PropertyChange {
            path: path.into(),
            before: value(before),
            after: value(after),
            is_dynamic: false,
            replacement: Replacement::Never,
            cause: cause.into(),
        }
    }

    fn covered(details: Vec<PropertyChange>) -> Vec<PropertyChange> {
        let changes = secrets(b"key").cover_changes(vec![Change { details, ..change("A") }]);
        changes.into_iter().flat_map(|change| change.details).collect()
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
        let url = BTreeMap::from([("Url".to_owned(), "pg://u:hunter2@db".into())]);
        let url = secrets(b"key").cover_parameters(&url)["Url"].text().unwrap().to_owned();
        assert!(url.starts_with("pg://u:hmac-sha256:") && url.ends_with("@db"), "{url}");
        let covered = cover(b"key", "hunter2");
        assert!(covered.starts_with(COVERED) && !covered.contains("hunter2"));
        assert_eq!(covered, cover(b"key", "hunter2"));
        assert_ne!(covered, cover(b"key", "hunter3"));
        assert_ne!(covered, cover(b"other", "hunter2"));
        let reference = "{{resolve:secretsmanager:db:SecretString:password}}";
        assert_eq!(cover(b"key", reference), reference);
        let more = format!("{reference}:more");
        assert_ne!(cover(b"key", &more), more, "only a whole reference is none");
        let shown = format!("{:?}", secrets(b"key"));
        assert!(!shown.contains("107"), "the key must not be shown: {shown}");
    }

    #[test]
    fn secrets_in_property_values_are_covered() {
        for (path, value) in [
            ("/Properties/MasterUserPassword", "s3cret"),
            ("/Properties/Environment/Variables/API_KEY", "s3cret"),
            ("/Properties/Environment/Variables/DbToken", "s3cret"),
            ("/Properties/Environment/Variables", r#"{"DB_PASSWORD":"s3cret","X":"y"}"#),
            ("/Properties/ContainerDefinitions", r#"[{"Environment":[{"Name":"API_TOKEN","Value":"s3cret"}]}]"#),
            ("/Properties/Url", "postgres://user:hunter2@db"),
            ("/Properties/Url", "hunter2-long"),
            ("/Properties/Variables", r#"{"A":"x pa\"ss-w0rd y"}"#),
            ("/Properties/Definition", r#"{"Body":"{\"a\":\"pa\\\"ss-w0rd\"}"}"#),
            ("/Properties/Definition", r#"{"Body":"{\"Password\":\"s3cret\"}"}"#),
            ("/Properties/Credentials", r#"{"A":"s3cret","B":["s3cret"]}"#),
            ("/Properties/Credentials", r#"{"A":31415926}"#),
            ("/Properties/Credentials", "{ s3cret"),
            ("/Properties/Tokens/0", "s3cret"),
        ] {
            let shown = covered(vec![detail(path, value, value, "")]).remove(0);
            for shown in [shown.before.unwrap(), shown.after.unwrap()] {
                let open = ["s3cret", "hunter2", "-long", "w0rd", "31415926"];
                assert!(shown.contains(COVERED) && !open.iter().any(|part| shown.contains(part)), "{path}: {shown}");
            }
        }
        for (path, value) in [
            ("/Properties/Environment/Variables/SECRET_ARN", "arn:aws:x"),
            ("/Properties/MasterUserPassword", "****"),
            ("/Properties/MasterUserPassword", "{{resolve:ssm-secure:x}}"),
            ("/Properties/MemorySize", "512"),
            ("/Properties/SecretName", "db"),
            ("/Properties/AccessTokenValidity", "60"),
            ("/Properties/Secrets", r#"[{"Name":"DB","ValueFrom":"arn:aws:x"}]"#),
        ] {
            assert_eq!(covered(vec![detail(path, "", value, "")])[0].after.as_deref(), Some(value));
        }
    }

    /// After a rotation nobody here knows the old value.
    #[test]
    fn the_former_value_of_a_secret_is_covered_too() {
        let shown = covered(vec![
            detail("/Properties/Env/URL", "pg://user:0ld@db", "pg://user:hunter2@db", "DirectModification"),
            detail("/Properties/Env/URL", "pg://user:0ld@db", "pg://user:hunter2@db", "ParameterReference Password"),
            detail("/Properties/Env", r#"{"URL":"pg://user:0ld@db"}"#, "", "DirectModification"),
            detail("/Properties/Size", "0ld", "new", "ParameterReference Size"),
        ]);
        for one in &shown[..3] {
            assert!(one.before.as_deref().unwrap().starts_with(COVERED), "{one:?}");
            assert!(one.after.as_deref().is_none_or(|after| after.starts_with(COVERED)), "{one:?}");
        }
        assert_eq!(shown[3].before.as_deref(), Some("0ld"));
        let nested = Change {
            details: vec![detail("/Properties/Url", "0ld", "new", "ParameterReference Conn")],
            ..change("Network/Function")
        };
        let nested = secrets(b"key").cover_changes(vec![nested]);
        assert!(nested[0].details[0].before.as_deref().unwrap().starts_with(COVERED));
    }
}
