//! Rollouts that were interrupted, and go on elsewhere.

use std::process::{Child, Command};

use serde_json::Value;

use crate::approvals::begun;
use crate::bed::{Bed, Project, tenantry};
use crate::deploy::planned;

/// Begins a rollout of prod, one target after the other, and returns it once the first is in work.
fn interrupted(bed: &Bed, project: &Project) -> (Child, String) {
    project.replace("tenantry.yaml", "rollout: { max-concurrency: 50,", "rollout: { max-concurrency: 1,");
    let digest = planned(bed, project);
    let (child, heard) = begun(bed, project, &["apply", &digest, "--approve", &digest], "CREATE_IN_PROGRESS");
    let rollout = heard.lines().find_map(|line| line.strip_prefix("rollout ")).unwrap().to_owned();
    (child, rollout)
}

/// Asserts that each stack of prod was executed once, and that all have ended well.
fn assert_each_once(bed: &Bed, resumed: &Value) {
    let mut stacks: Vec<String> =
        bed.actions("ExecuteChangeSet").iter().map(|call| call["StackName"].to_string()).collect();
    stacks.sort();
    assert_eq!(stacks.len(), 2, "{stacks:?}");
    assert_ne!(stacks[0], stacks[1]);
    assert_eq!(resumed["stages"][0]["counts"]["deployed"], 2, "{resumed}");
}

/// Safety rule 6: a run that is killed loses nothing, and nothing is executed twice.
#[test]
fn a_killed_rollout_goes_on_on_another_machine() {
    let (bed, project) = (Bed::with(&["--delay", "4"]), Project::hello());
    let (mut child, rollout) = interrupted(&bed, &project);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(bed.actions("ExecuteChangeSet").len(), 1);
    let refused = tenantry(&bed, &project, &["resume", &rollout]).exits(4);
    let id = refused.stderr.split("unlock --stage prod ").nth(1).unwrap()[..12].to_owned();
    tenantry(&bed, &project, &["unlock", "--stage", "prod", &id]).exits(0);
    let resumed = tenantry(&bed, &project, &["resume", &rollout, "--output", "json"]).exits(0).json();
    assert_each_once(&bed, &resumed);
    // What has ended stays as it is.
    let again = tenantry(&bed, &project, &["resume", &rollout, "--output", "json"]).exits(0).json();
    assert_each_once(&bed, &again);
    tenantry(&bed, &project, &["resume", "20200101T000000Z-prod-000000"]).exits(2);
}

#[test]
fn a_stopped_rollout_goes_on_where_it_was() {
    let (bed, project) = (Bed::with(&["--delay", "4"]), Project::hello());
    let (mut child, rollout) = interrupted(&bed, &project);
    assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(6));
    let resumed = tenantry(&bed, &project, &["resume", &rollout, "--output", "json"]).exits(0).json();
    assert_each_once(&bed, &resumed);
}
