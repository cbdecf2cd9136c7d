//! Policies, weakened or narrowed by one step.

use serde_json::{Value, json};

use crate::grid::Layer;
use crate::world::Place;

/// A policy with one thing different.
pub struct Mutant {
    pub what: String,
    pub document: Value,
}

/// Mutants that allow and deny the same, each with the proof.
pub const EQUIVALENT: [(&str, &str); 13] = [
    (
        "BucketPolicy PolicyDocument: OnlyOurKey: Action \"s3:PutObject\" as s3:*",
        "no other action says how an object is encrypted, without which the condition does not hold",
    ),
    (
        "DeploymentRole Policies/0/PolicyDocument: PassRoles: Resource \"arn:aws:iam::222222222222:role/Shop-*\" as *",
        "roles of other names are denied for good by NeverOthersRoles",
    ),
    (
        "AccessRole AssumeRolePolicyDocument: Enter: for everybody",
        "the condition names roles of the tooling account; who comes from another account needs rights of its own in any case",
    ),
    ("AccessRole AssumeRolePolicyDocument: Name: for everybody", "as above"),
    ("PlanRole AssumeRolePolicyDocument: Enter: for everybody", "as above"),
    ("PlanRole AssumeRolePolicyDocument: Name: for everybody", "as above"),
    (
        "BucketPolicy PolicyDocument: OnlyEncryptedConnections: Resource \"arn:aws:s3:::tenantry-111111111111-eu-west-1\" as *",
        "a bucket's policy is asked about nothing but the bucket and its objects",
    ),
    (
        "BucketPolicy PolicyDocument: OnlyEncryptedConnections: Resource \"arn:aws:s3:::tenantry-111111111111-eu-west-1/*\" as *",
        "as above",
    ),
    (
        "BucketPolicy PolicyDocument: OnlyOurKey: Resource \"arn:aws:s3:::tenantry-111111111111-eu-west-1/*\" as *",
        "as above, and s3:PutObject is about objects",
    ),
    (
        "BucketPolicy PolicyDocument: OnlyThisAccountWrites: Resource \"arn:aws:s3:::tenantry-111111111111-eu-west-1/*\" as *",
        "as above: all of its actions are about objects",
    ),
    (
        "BucketPolicy PolicyDocument: TenantsRead: without StringEquals aws:PrincipalOrgID",
        "the path begins with the organization; S3 would call the policy public without it",
    ),
    ("Key KeyPolicy: TenantsRead: without StringEquals aws:PrincipalOrgID", "the path begins with the organization"),
    (
        "BucketPolicy PolicyDocument: WrittenOnce: Action \"s3:PutObject\" as s3:*",
        "no other action has s3:ObjectCreationOperation, without which the condition does not hold",
    ),
];

/// The policies that some layer asks.
pub fn places(layers: &[Layer]) -> Vec<Place> {
    let mut places: Vec<Place> = Vec::new();
    for place in layers.iter().flat_map(|layer| &layer.places) {
        if !places.contains(place) {
            places.push(*place);
        }
    }
    places
}

/// Every policy that differs from one by a step.
pub fn of(document: &Value) -> Vec<Mutant> {
    let mut mutants = Vec::new();
    let statements = document["Statement"].as_array().unwrap();
    for (number, statement) in statements.iter().enumerate() {
        let sid = statement["Sid"].as_str().map_or_else(|| number.to_string(), str::to_owned);
        let mut without = document.clone();
        without["Statement"].as_array_mut().unwrap().remove(number);
        mutants.push(Mutant { what: format!("{sid}: dropped"), document: without });
        let mut add = |what: String, statement: Value| {
            let mut document = document.clone();
            document["Statement"][number] = statement;
            mutants.push(Mutant { what: format!("{sid}: {what}"), document });
        };
        for element in ["Action", "NotAction", "Resource", "NotResource"] {
            for (place, value) in list(&statement[element]).into_iter().enumerate() {
                if list(&statement[element]).len() > 1 {
                    let mut without = list(&statement[element]);
                    without.remove(place);
                    add(format!("without {element} {value}"), with(statement, element, json!(without)));
                }
                let text = value.as_str().unwrap();
                let wider = match (element, text.split_once(':')) {
                    ("Action" | "NotAction", Some((service, rest))) if rest != "*" => format!("{service}:*"),
                    ("Resource" | "NotResource", _) if text != "*" => "*".to_owned(),
                    _ => continue,
                };
                let mut widened = list(&statement[element]);
                widened[place] = json!(wider);
                add(format!("{element} {value} as {wider}"), with(statement, element, json!(widened)));
            }
        }
        if statement["Principal"].get("AWS").is_some_and(|aws| *aws != "*") {
            add("for everybody".to_owned(), with(statement, "Principal", json!({ "AWS": "*" })));
        }
        let conditions = statement["Condition"].as_object().into_iter().flatten();
        for (operator, keys) in conditions {
            for (key, values) in keys.as_object().unwrap() {
                let mut without = statement.clone();
                without["Condition"][operator].as_object_mut().unwrap().remove(key);
                if without["Condition"][operator].as_object().unwrap().is_empty() {
                    without["Condition"].as_object_mut().unwrap().remove(operator);
                }
                add(format!("without {operator} {key}"), without);
                for (place, value) in list(values).into_iter().enumerate() {
                    let mut other = list(values);
                    if other.len() > 1 {
                        other.remove(place);
                        let mut narrower = statement.clone();
                        narrower["Condition"][operator][key] = json!(other);
                        add(format!("{operator} {key} without {value}"), narrower);
                    }
                    if operator.contains("Like") && value != "*" {
                        let mut other = list(values);
                        other[place] = json!(if operator.contains("Arn") { "arn:*:*:*:*:*" } else { "*" });
                        let mut wider = statement.clone();
                        wider["Condition"][operator][key] = json!(other);
                        add(format!("{operator} {key} {value} as everything"), wider);
                    }
                }
            }
        }
    }
    mutants
}

fn list(value: &Value) -> Vec<Value> {
    match value {
        Value::Null => Vec::new(),
        Value::Array(list) => list.clone(),
        one => vec![one.clone()],
    }
}

fn with(statement: &Value, element: &str, value: Value) -> Value {
    let mut statement = statement.clone();
    statement[element] = value;
    statement
}
