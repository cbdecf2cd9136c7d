//! One plan, executed by several processes as one rollout.

use std::io::Read as _;
use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::bed::{Bed, Project, command, offline, ran, tenantry};
use crate::deploy::planned;
use crate::fleet::{self, assert_each_once, counts};
use crate::server::{Fleet, Weather};

/// Starts `apply` for a shard, with its answer on standard output.
fn start(fleet: &Fleet, project: &Project, digest: &str, shard: &str) -> Child {
    let mut command = command(project, None, &["apply", digest, "--shard", shard, "--output", "json"]);
    command.envs(fleet.variables()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits for a process; returns its answer, what it told, and its exit code.
fn end(mut child: Child) -> (Value, String, i32) {
    let mut stderr = child.stderr.take().unwrap();
    let told = std::thread::spawn(move || {
        let mut told = String::new();
        stderr.read_to_string(&mut told).unwrap();
        told
    });
    let output = child.wait_with_output().unwrap();
    let answer = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (answer, told.join().unwrap(), output.status.code().unwrap_or(-1))
}

fn plan(fleet: &Fleet, project: &Project) -> String {
    let plan = fleet::tenantry(fleet, project, &["plan", "--stage", "prod", "--output", "json"]).exits(0).json();
    plan["digest"].as_str().unwrap().to_owned()
}

fn all(of: u32) -> impl Iterator<Item = String> {
    (1..=of).map(move |number| format!("{number}/{of}"))
}

fn deployed(answers: &[Value]) -> u64 {
    answers.iter().map(|answer| counts(answer)["deployed"].as_u64().unwrap_or_default()).sum()
}

#[test]
fn three_processes_are_one_rollout_wave_by_wave() {
    let (fleet, project) = (
        Fleet::start(Weather::default()),
        fleet::of(30, "rollout: { max-concurrency: 6, canary: { tenants: [t00003] } }"),
    );
    let digest = plan(&fleet, &project);
    let children: Vec<Child> = ["1/3", "2/3", "3/3"].map(|shard| start(&fleet, &project, &digest, shard)).into();
    let ends: Vec<(Value, String, i32)> = children.into_iter().map(end).collect();
    for (_, told, code) in &ends {
        assert_eq!(*code, 0, "{told}");
    }
    let answers: Vec<Value> = ends.iter().map(|(answer, ..)| answer.clone()).collect();
    assert_eq!(deployed(&answers), 30, "{answers:?}");
    assert_each_once(&fleet, 30);
    assert_eq!(fleet.executions()[0].0, crate::server::account(3), "the canary goes first, in whatever shard it is");
    // All of them tell the same rollout, which has one record and one report.
    let rollout = answers[0]["stages"][0]["rollout"].as_str().unwrap().to_owned();
    assert!(answers.iter().all(|answer| answer["stages"][0]["rollout"] == rollout.as_str()), "{answers:?}");
    let report = fleet::tenantry(&fleet, &project, &["report", &rollout]).exits(0).stdout;
    assert!(report.contains("30 deployed") && report.contains("ended after"), "{report}");
    // The approval is used, and the lock given back.
    let (_, told, code) = end(start(&fleet, &project, &digest, "1/3"));
    assert_eq!(code, 4, "{told}");
    fleet::tenantry(&fleet, &project, &["deploy"]).exits(0);
}

#[test]
fn a_shard_that_is_killed_is_started_again_while_the_others_go_on() {
    let weather = Weather { stack: Duration::from_secs(4), ..Weather::default() };
    let (fleet, project) = (Fleet::start(weather), fleet::of(24, "rollout: { max-concurrency: 6 }"));
    let digest = plan(&fleet, &project);
    let (mut killed, heard) =
        fleet::begun(&fleet, &project, &["apply", &digest, "--shard", "2/2"], "CREATE_IN_PROGRESS");
    let other = start(&fleet, &project, &digest, "1/2");
    killed.kill().unwrap();
    killed.wait().unwrap();
    let rollout = heard.lines().find_map(|line| line.strip_prefix("rollout ")).unwrap().to_owned();
    // Another rollout of the stage is kept out, also by the shards that live.
    std::thread::sleep(Duration::from_secs(1));
    let refused = fleet::tenantry(&fleet, &project, &["apply", &digest]).exits(4);
    assert!(refused.stderr.contains("used") || refused.stderr.contains("lock"), "{}", refused.stderr);
    let (_, told, code) = end(start(&fleet, &project, &digest, "2/2"));
    assert_eq!(code, 4, "the killed process may live still: {told}");
    let id = told.split("unlock --stage prod --shard 2/2 ").nth(1).unwrap_or_else(|| panic!("{told}"))[..12].to_owned();
    fleet::tenantry(&fleet, &project, &["unlock", "--stage", "prod", "--shard", "2/2", &id]).exits(0);
    let again = start(&fleet, &project, &digest, "2/2");
    let ends = [end(other), end(again)];
    let answers: Vec<Value> = ends.iter().map(|(answer, ..)| answer.clone()).collect();
    assert!(ends.iter().all(|(_, _, code)| *code == 0), "{ends:?}");
    assert_eq!(deployed(&answers), 24, "{answers:?}");
    assert!(answers.iter().all(|answer| answer["stages"][0]["rollout"] == rollout.as_str()), "{answers:?}");
    assert_each_once(&fleet, 24);
}

/// Two may fail, over all shards. Those that fail do so in whatever shard they are.
#[test]
fn failures_are_counted_over_all_shards() {
    let failing = (0..40).filter(|number| number % 4 == 1).collect();
    let weather = Weather { stack: Duration::from_secs(2), failing, ..Weather::default() };
    let fleet = Fleet::start(weather);
    let project = fleet::of(40, "rollout: { max-concurrency: 4, failure-tolerance: 2 }");
    let digest = plan(&fleet, &project);
    let children: Vec<Child> = all(4).map(|shard| start(&fleet, &project, &digest, &shard)).collect();
    let ends: Vec<(Value, String, i32)> = children.into_iter().map(end).collect();
    assert!(ends.iter().all(|(answer, ..)| counts(answer).is_object()), "{ends:?}");
    let failed: u64 = ends.iter().map(|(answer, ..)| counts(answer)["rolled-back"].as_u64().unwrap_or_default()).sum();
    // Three, and what was in work beside when the third was known.
    assert!((3..=3 + 4).contains(&failed), "{failed} failed");
    let skipped: u64 = ends.iter().map(|(answer, ..)| counts(answer)["skipped"].as_u64().unwrap_or_default()).sum();
    assert!(skipped >= 40 - 24, "{skipped} were not started");
    assert!(ends.iter().any(|(_, _, code)| *code == 1));
    assert!(ends.iter().any(|(answer, ..)| answer.to_string().contains("over all shards")), "{ends:?}");
    let rollout = ends[0].0["stages"][0]["rollout"].as_str().unwrap();
    let report = fleet::tenantry(&fleet, &project, &["report", rollout]).exits(0).stdout;
    assert!(report.contains("skipped"), "{report}");
}

#[test]
fn shards_that_cannot_keep_a_plans_pace_are_refused() {
    let fleet = Fleet::start(Weather::default());
    for (rollout, why) in [
        ("rollout: { max-concurrency: 2 }", "3 shards are more than the 2 targets that may be in work at a time"),
        (
            "rollout: { max-concurrency: 6, concurrency-mode: strict }",
            "a plan with strict concurrency is executed by one machine",
        ),
    ] {
        let project = fleet::of(6, rollout);
        let digest = plan(&fleet, &project);
        let (_, told, code) = end(start(&fleet, &project, &digest, "1/3"));
        assert!(code == 2 && told.contains(why), "{told}");
    }
    assert!(fleet.executions().is_empty());
    let project = fleet::of(3, "");
    let refused = fleet::tenantry(&fleet, &project, &["apply", &"0".repeat(64), "--shard", "4/3"]).exits(2);
    assert!(refused.stderr.contains("a shard is one of at most 256, as 3/8"), "{}", refused.stderr);
}

/// Against the emulator: two processes, of which each knows its tenants alone.
#[test]
fn two_shards_release_to_two_customers() {
    let (bed, project) = (Bed::with(&["--delay", "2"]), Project::hello());
    let digest = planned(&bed, &project);
    tenantry(&bed, &project, &["approve", &digest]).exits(0);
    let before = bed.actions("AssumeRole").len();
    let start = |shard: &str| {
        let mut command = command(&project, Some(&bed), &["apply", &digest, "--shard", shard, "--output", "json"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let ends: Vec<(Value, String, i32)> =
        all(2).map(|shard| start(&shard)).collect::<Vec<_>>().into_iter().map(end).collect();
    for (answer, told, code) in &ends {
        assert_eq!(*code, 0, "{told}");
        assert!(counts(answer)["deployed"].as_u64().unwrap_or_default() <= 2, "{answer}");
    }
    let total: u64 = ends.iter().map(|(answer, ..)| counts(answer)["deployed"].as_u64().unwrap_or_default()).sum();
    assert_eq!((total, bed.actions("ExecuteChangeSet").len()), (2, 2));
    assert_eq!(bed.actions("AssumeRole").len() - before, 2, "each enters its own tenants alone");
    let status = tenantry(&bed, &project, &["status", "--stage", "prod", "--output", "json"]).exits(0).json();
    assert!(status.to_string().matches("CREATE_COMPLETE").count() >= 2, "{status}");
}

#[test]
fn a_matrix_is_what_github_and_codebuild_read() {
    let project = Project::empty();
    let shards = |output: &str| offline(&project, &["shards", "--of", "3", "--output", output]).exits(0).stdout;
    let matrix: Value = serde_json::from_str(&shards("github-matrix")).unwrap();
    assert_eq!(matrix, serde_json::json!({ "shard": ["1/3", "2/3", "3/3"] }));
    let batch: serde_yaml::Value = serde_yaml::from_str(&shards("codebuild-batch")).unwrap();
    let variables = &batch["batch"]["build-matrix"]["dynamic"]["env"]["variables"];
    assert_eq!(variables["TENANTRY_SHARD"][2].as_str(), Some("3/3"));
    let mut other = command(&project, None, &["schema", "--output", "github-matrix"]);
    other.env_clear();
    assert_eq!(ran(other).code, 0, "a schema has one form");
    offline(&Project::hello(), &["check", "--output", "github-matrix"]).exits(2);
}
