//! Spans for a collector of OpenTelemetry.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::approvals::answering;
use crate::bed::{Bed, Project, command, ran};

#[test]
fn a_target_and_each_of_its_steps_are_spans_of_one_trace() {
    let (bed, project) = (Bed::start(), Project::hello());
    let missing = "  parameters:\n    S3Key: CrossAccountPipeline/shared/missing.zip\n  roles:\n";
    project.replace("tenants.yaml", "  roles:\n", missing);
    project.replace("tenantry.yaml", "gate: { approval: required }", "gate: { approval: none }");
    let heard = Arc::new(Mutex::new(Vec::<Value>::new()));
    let hears = heard.clone();
    let collector = answering(move |request| {
        assert!(request.starts_with("POST /v1/traces ") && request.contains("api-key: s3cret"), "{request}");
        let body: Value = serde_json::from_str(request.split("\r\n\r\n").nth(1).unwrap()).unwrap();
        hears.lock().unwrap().extend(body["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap().clone());
        "{}".to_owned()
    });
    let mut deploy = command(&project, Some(&bed), &["deploy", "--stage", "prod"]);
    deploy.env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector).env("OTEL_EXPORTER_OTLP_HEADERS", "Api-Key=s3cret");
    deploy.env("TRACEPARENT", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    let ran_once = ran(deploy).exits(1);
    assert!(!ran_once.all().contains("s3cret"), "{}", ran_once.all());

    let spans = heard.lock().unwrap().clone();
    let name = |span: &Value| span["name"].as_str().unwrap().to_owned();
    let by_id: BTreeMap<String, &Value> =
        spans.iter().map(|span| (span["spanId"].as_str().unwrap().to_owned(), span)).collect();
    assert_eq!(by_id.len(), spans.len(), "each has an id of its own");
    // From a step to its root.
    let path = |span: &Value| {
        let (mut path, mut at) = (vec![name(span)], span);
        while let Some(parent) = by_id.get(at["parentSpanId"].as_str().unwrap()) {
            path.push(name(parent));
            at = parent;
        }
        path.join(" < ")
    };
    let paths: Vec<String> = spans.iter().map(path).collect();
    for expected in [
        "tenantry deploy",
        "planning < gnome/eu-west-1 < plan prod < tenantry deploy",
        "executing < gnome/eu-west-1 < apply prod < tenantry deploy",
        "verifying < unicorn/eu-west-1 < apply prod < tenantry deploy",
    ] {
        assert!(paths.iter().any(|path| path == expected), "{expected} is not in {paths:#?}");
    }
    for span in &spans {
        assert_eq!(span["traceId"], "0af7651916cd43dd8448eb211c80319c");
        let at = |key: &str| span[key].as_str().unwrap().parse::<u64>().unwrap();
        assert!(
            at("startTimeUnixNano") > 1_700_000_000_000_000_000 && at("endTimeUnixNano") >= at("startTimeUnixNano"),
            "{span}"
        );
    }
    let root = spans.iter().find(|span| name(span) == "tenantry deploy").unwrap();
    assert_eq!(root["parentSpanId"], "b7ad6b7169203331");
    let failed =
        spans.iter().find(|span| span["status"]["message"].as_str().is_some_and(|text| text.contains("NoSuchKey")));
    assert_eq!(name(failed.unwrap()), "gnome/eu-west-1");

    // A collector that is not there changes nothing.
    let mut check = command(&project, Some(&bed), &["status", "--stage", "prod"]);
    check.env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1");
    let told = ran(check).exits(0);
    assert!(told.stderr.contains("note: spans could not be sent: POST"), "{}", told.stderr);
}
