//! Telling people: a topic and a webhook.

use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::approvals::answering;
use crate::bed::{Bed, Project, command, offline, ran};

const NOTIFY: &str = "notify:
  - { topic: arn:aws:sns:eu-west-1:111111111111:releases }
  - { webhook: RELEASES_WEBHOOK, on: [waiting, failed] }

tenants: tenants.yaml";

#[test]
fn who_is_named_is_told_that_a_plan_waits_and_how_rollouts_end() {
    let (bed, project) = (Bed::start(), Project::hello());
    bed.boto3("111111111111", "client('sns').create_topic(Name='releases')");
    project.replace("tenantry.yaml", "tenants: tenants.yaml", NOTIFY);
    let missing = "  parameters:\n    S3Key: CrossAccountPipeline/shared/missing.zip\n  roles:\n";
    project.replace("tenants.yaml", "  roles:\n", missing);
    let heard = Arc::new(Mutex::new(Vec::<String>::new()));
    let hears = heard.clone();
    let hook = answering(move |request| {
        assert!(request.starts_with("POST /services/s3cret "), "{request}");
        let body: Value = serde_json::from_str(request.split("\r\n\r\n").nth(1).unwrap()).unwrap();
        hears.lock().unwrap().push(body["text"].as_str().unwrap().to_owned());
        "ok".to_owned()
    });
    let url = format!("{hook}/services/s3cret");
    let run = |arguments: &[&str]| {
        let mut command = command(&project, Some(&bed), arguments);
        command.env("RELEASES_WEBHOOK", &url);
        let ran = ran(command);
        assert!(!ran.all().contains("s3cret"), "the URL is a secret: {}", ran.all());
        ran
    };
    let told = || std::mem::take(&mut *heard.lock().unwrap());

    let waits = run(&["deploy", "--output", "json"]).exits(3).json();
    let digest = waits["stages"][1]["plan-digest"].as_str().unwrap().to_owned();
    let texts = told();
    assert_eq!(texts.len(), 1, "that dev is finished was not asked for: {texts:?}");
    assert!(texts[0].starts_with("SampleApplication prod: a plan waits for approval\nrelease "), "{}", texts[0]);
    assert!(texts[0].contains(&format!("tenantry approve {digest}")), "{}", texts[0]);
    let published = bed.actions("Publish");
    let subjects: Vec<&str> = published.iter().map(|call| call["Subject"].as_str().unwrap()).collect();
    assert_eq!(subjects, ["SampleApplication dev: 1 deployed", "SampleApplication prod: a plan waits for approval"]);

    // One customer's fails: told with its cause, and with what Slack would read escaped.
    run(&["apply", &digest, "--approve", &digest]).exits(1);
    let texts = told();
    assert_eq!(texts.len(), 1, "{texts:?}");
    assert!(texts[0].starts_with("SampleApplication prod: 1 deployed, 1 rolled-back"), "{}", texts[0]);
    assert!(texts[0].contains("1: AWS::Lambda::Function: ") && texts[0].contains("\ntenantry report "), "{}", texts[0]);
    assert!(!texts[0].contains('<') && !texts[0].contains('>'), "{}", texts[0]);
    let last = bed.actions("Publish").pop().unwrap();
    assert!(last["Message"].as_str().unwrap().contains("rollout 20"), "{last}");
}

#[test]
fn who_cannot_be_told_stops_no_rollout() {
    let (bed, project) = (Bed::start(), Project::hello());
    project.replace("tenantry.yaml", "tenants: tenants.yaml", NOTIFY);
    project.replace("tenantry.yaml", "on: [waiting, failed]", "on: [finished]");
    let mut deploy = command(&project, Some(&bed), &["deploy", "--stage", "dev"]);
    deploy.env("RELEASES_WEBHOOK", "http://127.0.0.1:1/s3cret");
    let ran = ran(deploy).exits(0);
    assert!(ran.stderr.contains("RELEASES_WEBHOOK could not be told: POST: the URL"), "{}", ran.stderr);
    assert!(!ran.all().contains("s3cret"), "{}", ran.all());
}

#[test]
fn an_address_that_is_none_is_refused_with_its_place() {
    for (entry, why) in [
        ("{ topic: releases }", "`releases` is no topic of SNS"),
        ("{ webhook: \"https://hooks.example.com/x\" }", "a webhook is given by the name of a variable"),
        ("{ on: [failed] }", "somebody is told by a `topic` or by a `webhook`"),
    ] {
        let project = Project::hello();
        project.replace(
            "tenantry.yaml",
            "tenants: tenants.yaml",
            &format!("notify:\n  - {entry}\ntenants: tenants.yaml"),
        );
        let told = offline(&project, &["check"]).exits(2).stderr;
        assert!(told.contains(why) && told.contains("tenantry.yaml:"), "{told}");
    }
}
