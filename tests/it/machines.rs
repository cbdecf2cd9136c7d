//! Machines that a state machine starts: `infra/fleet.yaml` as it is, set up and executed by the emulator, with its policies
//! enforced; the builds are processes that run `buildspec.yml` (`tests/bed/codebuild.py`).

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::accounts::{APPROVER, ORGANIZATION, RELEASER, admin, output, project, taking, taking_command};
use crate::bed::{Bed, Project, assert_untold, static_binary};

const THREE: &str = "- name: sandbox\n  account: \"222222222222\"\n\n- name: unicorn\n  account: \"333333333333\"\n\n\
                     - name: gnome\n  account: \"444444444444\"\n";

/// Accounts, with machines or without, and a plan for production that is approved: its digest.
fn planned(bed: &Bed, with_machines: bool) -> (Project, String) {
    let project = project(THREE, ORGANIZATION);
    admin(bed, &project, &["bootstrap", "tooling", "--yes"]).exits(0);
    admin(bed, &project, &["bootstrap", "tenant", "--yes"]).exits(0);
    if with_machines {
        let tool = static_binary();
        assert!(tool.exists(), "{} is not there: run `make static`", tool.display());
        admin(bed, &project, &["bootstrap", "fleet", "--yes", "--binary", tool.to_str().unwrap()]).exits(0);
    }
    taking("alice", RELEASER, bed, &project, &["deploy", "--outputs-file", "outputs"]).exits(3);
    let digest = output(&project, "plan-digest");
    taking("bob", APPROVER, bed, &project, &["approve", &digest]).exits(0);
    bed.forget();
    (project, digest)
}

fn apply(digest: &str) -> [&str; 6] {
    let words = ["apply", "DIGEST", "--engine", "step-functions", "--shards", "4"];
    words.map(|word| if word == "DIGEST" { digest } else { word })
}

#[test]
fn machines_execute_a_plan_as_one_rollout() {
    let bed = Bed::with(&["--empty"]);
    let (project, digest) = planned(&bed, true);
    let arguments = [&apply(&digest)[..], &["--output", "json", "--log-format", "plain"]].concat();
    let done = taking("alice", RELEASER, &bed, &project, &arguments);
    let builds = bed.builds();
    for build in &builds {
        assert_untold(build);
    }
    assert_eq!(done.code, 0, "{}\n{}", done.all(), builds.join("\n--- build\n"));
    let stage = &done.json()["stages"][0];
    assert_eq!(stage["counts"]["deployed"], 2, "{stage}");
    assert!(stage["rollout"].as_str().unwrap().contains("-prod-"), "{stage}");
    assert_eq!(bed.actions("ExecuteChangeSet").len(), 2);
    // By their names, the second and the fourth have a target each, and the others nothing to execute.
    assert_eq!(builds.len(), 4);
    assert_eq!(builds.iter().filter(|build| build.contains("has nothing to execute")).count(), 2);
    for build in &builds {
        assert!(build.contains("EXPORTED TENANTRY_EXIT_CODE=0"), "{build}");
    }
    // What happens there is told here.
    for target in ["unicorn/eu-west-1", "gnome/eu-west-1"] {
        assert!(done.stderr.contains(&format!("[{target}] deployed")), "{}", done.stderr);
    }
    // Whoever has started it is who the tenants see.
    assert!(bed.actions("AssumeRole").iter().any(|asked| asked["SourceIdentity"] == "alice"));
    // A plan is executed once.
    let again = taking("alice", RELEASER, &bed, &project, &apply(&digest)).exits(4);
    assert!(again.stderr.contains("used"), "{}", again.stderr);
}

/// Whoever follows may be killed, and another one follows; a stop reaches the machines; and the same command goes on.
#[test]
fn machines_are_lost_found_stopped_and_go_on() {
    let bed = Bed::with(&["--empty", "--delay", "9"]);
    let (project, digest) = planned(&bed, true);
    let begin = || {
        let mut command = taking_command("alice", RELEASER, &bed, &project, &apply(&digest));
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let mut lost = begin();
    for _ in 0..600 {
        if bed.actions("ExecuteChangeSet").len() == 2 {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    lost.kill().unwrap();
    lost.wait().unwrap();

    let mut found = begin();
    let mut heard = String::new();
    let mut lines = BufReader::new(found.stderr.take().unwrap());
    while !heard.contains("machines execute the plan: ") && lines.read_line(&mut heard).unwrap() > 0 {}
    assert!(Command::new("kill").arg(found.id().to_string()).status().unwrap().success());
    lines.read_to_string(&mut heard).unwrap();
    assert_eq!(found.wait().unwrap().code(), Some(6), "{heard}");
    assert!(heard.contains("the machines' execution: ABORTED"), "{heard}");
    assert!(heard.contains("the same command starts the machines again"), "{heard}");

    let done = taking("alice", RELEASER, &bed, &project, &apply(&digest));
    let builds = bed.builds();
    assert_eq!(done.code, 0, "{}\n{}", done.all(), builds.join("\n--- build\n"));
    assert_eq!(bed.actions("ExecuteChangeSet").len(), 2);
    // Four machines twice, and not a third time for whoever found them.
    assert_eq!(builds.len(), 8);
    let detached = builds.iter().filter(|build| build.contains("EXPORTED TENANTRY_EXIT_CODE=6")).count();
    assert_eq!(detached, 2, "{}", builds.join("\n--- build\n"));
}

#[test]
fn machines_that_are_not_there_are_told_with_what_makes_them() {
    let bed = Bed::with(&["--empty"]);
    let (project, digest) = planned(&bed, false);
    let refused = taking("alice", RELEASER, &bed, &project, &apply(&digest)).exits(2);
    assert!(refused.stderr.contains("hint: `tenantry bootstrap fleet` makes"), "{}", refused.stderr);
    let more = ["apply", &digest, "--engine", "step-functions", "--shards", "64"];
    let more = taking("alice", RELEASER, &bed, &project, &more).exits(2);
    assert!(more.stderr.contains("64 shards are more than the 50 targets"), "{}", more.stderr);
    // Nothing was used up.
    taking("alice", RELEASER, &bed, &project, &["apply", &digest]).exits(0);
}
