//! Reports of a rollout, made from its records after it has ended.

use std::fs;

use fancy_regex::Regex;
use serde_json::Value;

use crate::bed::{Bed, Project, snapshot, tenantry};

/// A rollout in which one customer's stack fails.
fn rollout(bed: &Bed, project: &Project) -> String {
    project.replace(
        "tenantry.yaml",
        "    gate: { approval: required }\n    rollout: { max-concurrency: 50, failure-tolerance: 0 }\n",
        "    rollout: { canary: { tenants: [unicorn] }, failure-tolerance: 1 }\n",
    );
    // There is no code for gnome's function.
    let broken = "  parameters:\n    S3Key: CrossAccountPipeline/shared/missing.zip\n  roles:\n";
    project.replace("tenants.yaml", "  roles:\n", broken);
    let ran = tenantry(bed, project, &["deploy", "--stage", "prod", "--outputs-file", "outputs"]).exits(5);
    assert!(ran.stdout.contains("1 deployed, 1 rolled-back"), "{}", ran.stdout);
    let outputs = fs::read_to_string(project.path().join("outputs")).unwrap();
    outputs.lines().find_map(|line| line.strip_prefix("rollout=")).unwrap().to_owned()
}

/// Leaves out what is otherwise in every run.
fn timeless(text: &str) -> String {
    let times = Regex::new("(?<=time=\")[0-9.]+|(?<=, )[0-9]{13}|\\b[0-9]+s\\b").unwrap();
    times.replace_all(text, "0").into_owned()
}

#[test]
fn a_rollout_is_told_from_its_records_in_every_form() {
    let (bed, project) = (Bed::start(), Project::hello());
    let id = rollout(&bed, &project);
    bed.forget();
    let files = ["--html", "page.html", "--junit", "junit.xml", "--summary", "summary.md", "--annotations"];
    let told = tenantry(&bed, &project, &[&["report", &id][..], &files].concat()).exits(0);
    let read = |name: &str| fs::read_to_string(project.path().join(name)).unwrap();
    snapshot("report", &timeless(&told.all()));
    snapshot("report-junit", &timeless(&read("junit.xml")));
    snapshot("report-summary", &timeless(&read("summary.md")));
    // Reading is all that it does.
    assert!(bed.requests().iter().all(|request| request["method"] != "PUT"));

    let page = read("page.html");
    for text in ["1 deployed, 1 rolled-back", "NoSuchKey", "What failed", "gnome/eu-west-1", "SampleApplicationRole"] {
        assert!(page.contains(text), "{text} is not in the page");
    }
    assert!(!page.contains("http://") && !page.contains("https://"), "it needs nothing from elsewhere");

    let data = tenantry(&bed, &project, &["report", &id, "--output", "json"]).exits(0).json();
    assert_eq!(data["counts"], serde_json::json!([["deployed", 1], ["rolled-back", 1]]));
    let targets = data["targets"].as_array().unwrap();
    assert_eq!(targets[0]["tenant"], "gnome", "what failed comes first");
    assert!(targets.iter().all(|target| !target["spans"].as_array().unwrap().is_empty()));
    let events: Vec<&Value> = targets.iter().flat_map(|target| target["events"].as_array().unwrap()).collect();
    assert!(events.iter().any(|event| event["status"] == "CREATE_FAILED"), "{events:?}");

    let unknown = tenantry(&bed, &project, &["report", "x"]).exits(2);
    assert!(unknown.stderr.contains("there is no rollout x"), "{}", unknown.stderr);
}
