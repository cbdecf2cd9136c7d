//! Which actions CloudFormation needs to deploy a template, and which of them a role allows.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::sync::LazyLock;

use serde::Serialize;
use serde_json::Value;
use wildmatch::WildMatch;

use crate::source::Document;
use crate::source::yaml::Id;

/// What the handlers of each type may call: to create, read, update and delete. Written by `make permissions` from the
/// registry's schemas.
/// Source: <https://docs.aws.amazon.com/cloudformation-cli/latest/userguide/resource-type-schema.html#schema-properties-handlers>
static PERMISSIONS: LazyLock<BTreeMap<String, Vec<String>>> = LazyLock::new(|| {
    let mut text = String::new();
    let packed = include_bytes!("data/permissions.json.gz");
    flate2::read::GzDecoder::new(packed.as_slice())
        .read_to_string(&mut text)
        .expect("what was packed with the program");
    serde_json::from_str(&text).expect("what was packed with the program")
});

/// What a template needs of the role that CloudFormation uses, compared with what a role allows.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Comparison {
    /// The actions that each type's handlers may call.
    pub needed: BTreeMap<String, BTreeSet<String>>,
    /// Those of the type's own service that the role does not allow.
    pub missing: BTreeMap<String, BTreeSet<String>>,
    /// Those of other services: needed where the resource has to do with them.
    pub perhaps: BTreeMap<String, BTreeSet<String>>,
    /// Those that the role denies, whatever else is allowed.
    pub denied: BTreeSet<String>,
    /// What the role allows, and the template does not need.
    pub unused: BTreeSet<String>,
    /// Types of which nothing is known.
    pub unknown: BTreeSet<String>,
}

/// Services that many types need beside their own: what there is of them is essential only where the type is one of theirs.
const HELPERS: [&str; 12] =
    ["cloudwatch", "ec2", "events", "iam", "kms", "lambda", "logs", "s3", "secretsmanager", "sns", "ssm", "sts"];

/// What every role that CloudFormation uses needs to read what is released, whichever types it has.
const RELEASE: [&str; 4] = ["cloudformation:CreateChangeSet", "kms:Decrypt", "s3:GetObject", "s3:GetObjectVersion"];

/// Returns the types of a template's resources, with those that SAM makes of its own.
pub fn types(document: &Document) -> BTreeSet<String> {
    let tree = &document.tree;
    let child = |name: &str| tree.root().and_then(|root| tree.child(root, name));
    let resources = child("Resources");
    let mut found = BTreeSet::new();
    let globals = child("Globals");
    for (name, resource) in resources.map(|id| tree.entries(id)).unwrap_or_default() {
        let body = if name.starts_with("Fn::ForEach") { tree.child(resource, "2") } else { None };
        let looped = body.map(|body| tree.entries(body)).unwrap_or_default();
        for id in looped.into_iter().map(|(_, id)| id).chain([resource]) {
            let Some(kind) = tree.child(id, "Type").and_then(|id| tree.text(id)) else { continue };
            match kind.strip_prefix("AWS::Serverless::") {
                Some(kind) => {
                    let global = globals.and_then(|globals| tree.child(globals, kind));
                    let places: Vec<Id> = tree.child(id, "Properties").into_iter().chain(global).collect();
                    made_by_sam(document, kind, &places, &mut found);
                }
                // What it says of the CDK is for nobody.
                None if kind == "AWS::CDK::Metadata" => {}
                None => _ = found.insert(kind.to_owned()),
            }
        }
    }
    found
}

/// Adds the types that SAM makes.
/// Source: <https://docs.aws.amazon.com/serverless-application-model/latest/developerguide/sam-specification-generated-resources.html>
fn made_by_sam(document: &Document, kind: &str, properties: &[Id], found: &mut BTreeSet<String>) {
    let tree = &document.tree;
    let has = |key: &str| properties.iter().any(|id| tree.child(*id, key).is_some());
    let mut add = |types: &[&str]| found.extend(types.iter().map(|name| format!("AWS::{name}")));
    match kind {
        "Function" | "StateMachine" => {
            add(&[if kind == "Function" { "Lambda::Function" } else { "StepFunctions::StateMachine" }]);
            if !has("Role") {
                add(&["IAM::Role"]);
            }
            if has("AutoPublishAlias") {
                add(&["Lambda::Version", "Lambda::Alias"]);
            }
            if has("DeploymentPreference") {
                add(&["CodeDeploy::Application", "CodeDeploy::DeploymentGroup", "IAM::Role"]);
            }
            if has("FunctionUrlConfig") {
                add(&["Lambda::Url", "Lambda::Permission"]);
            }
            if has("EventInvokeConfig") {
                add(&["Lambda::EventInvokeConfig"]);
            }
            let events = properties.iter().filter_map(|id| tree.child(*id, "Events")).flat_map(|id| tree.entries(id));
            for (_, event) in events {
                if kind == "StateMachine" {
                    add(match tree.child(event, "Type").and_then(|id| tree.text(id)).unwrap_or_default() {
                        "Api" => &["ApiGateway::RestApi", "ApiGateway::Deployment", "ApiGateway::Stage", "IAM::Role"],
                        "ScheduleV2" => &["Scheduler::Schedule", "IAM::Role"],
                        _ => &["Events::Rule", "IAM::Role"],
                    });
                    continue;
                }
                add(match tree.child(event, "Type").and_then(|id| tree.text(id)).unwrap_or_default() {
                    "Api" => {
                        &["ApiGateway::RestApi", "ApiGateway::Deployment", "ApiGateway::Stage", "Lambda::Permission"]
                    }
                    "HttpApi" => &["ApiGatewayV2::Api", "ApiGatewayV2::Stage", "Lambda::Permission"],
                    "SNS" => &["SNS::Subscription", "Lambda::Permission", "SQS::QueuePolicy"],
                    "Schedule" | "CloudWatchEvent" | "EventBridgeRule" => &["Events::Rule", "Lambda::Permission"],
                    "ScheduleV2" => &["Scheduler::Schedule", "IAM::Role"],
                    "IoTRule" => &["IoT::TopicRule", "Lambda::Permission"],
                    "CloudWatchLogs" => &["Logs::SubscriptionFilter", "Lambda::Permission"],
                    "SQS" | "Kinesis" | "DynamoDB" | "MSK" | "MQ" | "SelfManagedKafka" | "DocumentDB" => {
                        &["Lambda::EventSourceMapping"]
                    }
                    _ => &["Lambda::Permission"],
                });
            }
        }
        "Api" | "HttpApi" => {
            let v2 = kind == "HttpApi";
            add(if v2 {
                &["ApiGatewayV2::Api", "ApiGatewayV2::Stage"]
            } else {
                &["ApiGateway::RestApi", "ApiGateway::Deployment", "ApiGateway::Stage"]
            });
            if has("Domain") {
                let named: &[&str] = if v2 {
                    &["ApiGatewayV2::DomainName", "ApiGatewayV2::ApiMapping", "Route53::RecordSetGroup"]
                } else {
                    &["ApiGateway::DomainName", "ApiGateway::BasePathMapping", "Route53::RecordSetGroup"]
                };
                add(named);
            }
            let auth = properties.iter().filter_map(|id| tree.child(*id, "Auth"));
            if auth.filter(|id| tree.child(*id, "UsagePlan").is_some()).count() > 0 {
                add(&["ApiGateway::UsagePlan", "ApiGateway::UsagePlanKey", "ApiGateway::ApiKey"]);
            }
        }
        "SimpleTable" => add(&["DynamoDB::Table"]),
        "LayerVersion" => add(&["Lambda::LayerVersion"]),
        "Application" => add(&["CloudFormation::Stack"]),
        "Connector" => add(&["IAM::ManagedPolicy"]),
        "GraphQLApi" => add(&["AppSync::GraphQLApi", "AppSync::GraphQLSchema", "AppSync::Resolver", "IAM::Role"]),
        other => add(&[&format!("Serverless::{other}")]),
    }
}

/// Compares what types need with a role's policies. Which resources and conditions statements have is not looked at: they
/// are about names that a template does not tell.
pub fn compare(types: &BTreeSet<String>, policies: &[&Value]) -> Comparison {
    let of = |effect: &'static str| {
        policies.iter().flat_map(|policy| statements(policy)).filter(move |one| one["Effect"] == effect)
    };
    let allowed: Vec<WildMatch> = of("Allow").flat_map(actions).map(|action| pattern(&action)).collect();
    let for_good = |one: &&Value| one["Resource"] == "*" && one["Condition"].is_null();
    let denied: Vec<WildMatch> = of("Deny").filter(for_good).flat_map(actions).map(|action| pattern(&action)).collect();
    let matches = |patterns: &[WildMatch], action: &str| {
        let action = action.to_lowercase();
        patterns.iter().any(|pattern| pattern.matches(&action))
    };
    let mut comparison = Comparison::default();
    for name in types {
        // Whoever answers is a function or a topic.
        let custom = ["lambda:InvokeFunction".to_owned()];
        let is_custom = name.starts_with("Custom::") || name == "AWS::CloudFormation::CustomResource";
        let known = PERMISSIONS.get(name).map(Vec::as_slice).or(is_custom.then_some(&custom[..]));
        let Some(needed) = known else {
            comparison.unknown.insert(name.clone());
            continue;
        };
        let own = service(name, needed);
        for action in needed {
            if matches(&denied, action) {
                comparison.denied.insert(action.clone());
            } else if !matches(&allowed, action) {
                let is_own = action.split(':').next() == own;
                let grade = if is_own { &mut comparison.missing } else { &mut comparison.perhaps };
                grade.entry(name.clone()).or_default().insert(action.clone());
            }
        }
        comparison.needed.insert(name.clone(), needed.iter().cloned().collect());
    }
    let release = RELEASE.iter().map(|action| (*action).to_lowercase());
    let needed: BTreeSet<String> =
        comparison.needed.values().flatten().map(|action| action.to_lowercase()).chain(release).collect();
    let is_unused = |action: &String| {
        let pattern = pattern(action);
        !needed.iter().any(|needed| pattern.matches(needed))
    };
    comparison.unused = of("Allow").flat_map(actions).filter(is_unused).collect();
    comparison
}

/// Returns the service that a type is of: that of its name, or that of most of its actions without those that only help.
fn service<'a>(name: &str, actions: &'a [String]) -> Option<&'a str> {
    let namespace = name.split("::").nth(1).unwrap_or_default().to_lowercase();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for action in actions {
        *counts.entry(action.split(':').next().unwrap_or_default()).or_default() += 1;
    }
    if let Some((own, _)) = counts.get_key_value(namespace.as_str()) {
        return Some(own);
    }
    let helps = |service: &str| HELPERS.contains(&service);
    counts.into_iter().max_by_key(|(service, count)| (!helps(service), *count)).map(|(service, _)| service)
}

/// Actions are compared whatever their case.
/// Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_action.html>
fn pattern(action: &str) -> WildMatch {
    WildMatch::new(&action.to_lowercase())
}

fn statements(policy: &Value) -> &[Value] {
    list(&policy["Statement"])
}

fn actions(statement: &Value) -> impl Iterator<Item = String> + '_ {
    list(&statement["Action"]).iter().filter_map(|action| action.as_str().map(str::to_owned))
}

fn list(value: &Value) -> &[Value] {
    match value {
        Value::Array(list) => list,
        one => std::slice::from_ref(one),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;

    fn types_of(text: &str) -> Vec<String> {
        types(&Document::new(Path::new("t.yaml"), text.to_owned())).into_iter().collect()
    }

    #[test]
    fn what_sam_makes_is_counted() {
        let text = "Resources:\n  F:\n    Type: AWS::Serverless::Function\n    Properties:\n      AutoPublishAlias: live\n      \
                    Events: { Get: { Type: HttpApi }, Work: { Type: SQS } }\n  T: { Type: AWS::Serverless::SimpleTable }\n";
        let made = [
            "AWS::ApiGatewayV2::Api",
            "AWS::ApiGatewayV2::Stage",
            "AWS::DynamoDB::Table",
            "AWS::IAM::Role",
            "AWS::Lambda::Alias",
            "AWS::Lambda::EventSourceMapping",
            "AWS::Lambda::Function",
            "AWS::Lambda::Permission",
            "AWS::Lambda::Version",
        ];
        assert_eq!(types_of(text), made);
        let global = "Globals: { Function: { AutoPublishAlias: live } }\nResources: { F: { Type: AWS::Serverless::Function, Properties: { Role: x } } }";
        assert_eq!(types_of(global), ["AWS::Lambda::Alias", "AWS::Lambda::Function", "AWS::Lambda::Version"]);
        let with_role = "Resources: { F: { Type: AWS::Serverless::Function, Properties: { Role: x } } }";
        assert_eq!(types_of(with_role), ["AWS::Lambda::Function"]);
    }

    #[test]
    fn a_types_own_service_is_not_one_that_helps_it() {
        for (name, own) in [
            ("AWS::ElastiCache::CacheCluster", "elasticache"),
            ("AWS::EKS::Cluster", "eks"),
            ("AWS::Cognito::UserPoolDomain", "cognito-idp"),
            ("AWS::ApiGatewayV2::ApiGatewayManagedOverrides", "apigateway"),
            ("AWS::AmazonMQ::Broker", "mq"),
            ("AWS::StepFunctions::StateMachine", "states"),
            ("AWS::IAM::Role", "iam"),
            ("AWS::S3::Bucket", "s3"),
            ("AWS::Lambda::Function", "lambda"),
            ("AWS::Logs::LogGroup", "logs"),
        ] {
            assert_eq!(service(name, &PERMISSIONS[name]), Some(own), "{name}");
        }
    }

    #[test]
    fn what_is_missing_and_what_is_too_much_is_told() {
        let policy = json!({ "Statement": [
            { "Effect": "Allow", "Action": ["SQS:*", "sns:Publish"], "Resource": "x" },
            { "Effect": "Deny", "Action": "sqs:DeleteQueue", "Resource": "*" },
            { "Effect": "Deny", "Action": "sqs:CreateQueue", "Resource": "x" },
        ]});
        let types =
            BTreeSet::from(["AWS::SQS::Queue".to_owned(), "AWS::SSM::Parameter".to_owned(), "X::Y::Z".to_owned()]);
        let told = compare(&types, &[&policy]);
        assert_eq!(told.denied, BTreeSet::from(["sqs:DeleteQueue".to_owned()]));
        assert_eq!(told.unused, BTreeSet::from(["sns:Publish".to_owned()]));
        assert_eq!(told.unknown, BTreeSet::from(["X::Y::Z".to_owned()]));
        assert!(told.missing["AWS::SSM::Parameter"].contains("ssm:PutParameter"), "{told:?}");
        assert!(!told.missing.contains_key("AWS::SQS::Queue"), "{told:?}");
    }
}
