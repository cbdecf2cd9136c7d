//! The GitHub action and the CodeBuild step, executed as they are written.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_yaml::Value;

use crate::bed::{Bed, Project, assert_untold, binary, python, root};

/// The target folder that the tests were built in, so that the steps' own build finds its dependencies there.
fn target() -> PathBuf {
    binary().parent().and_then(Path::parent).unwrap().to_owned()
}

const WORKFLOW: &str = "
on: workflow_dispatch
jobs:
  plan:
    runs-on: ubuntu-latest
    outputs:
      digest: ${{ steps.plan.outputs.plan-digest }}
    steps:
      - uses: actions/checkout@v4
      - id: plan
        uses: ./
        with:
          config: PROJECT/tenantry.yaml
      - run: echo \"SAID code=${{ steps.plan.outputs.exit-code }} changes=${{ steps.plan.outputs.has-changes }} deployed=${{ steps.plan.outputs.deployed }}\"
  apply:
    needs: plan
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - id: apply
        uses: ./
        with:
          command: apply
          config: PROJECT/tenantry.yaml
          plan-digest: ${{ needs.plan.outputs.digest }}
          approve: ${{ needs.plan.outputs.digest }}
          binary: BINARY
      - run: echo \"SAID code=${{ steps.apply.outputs.exit-code }} deployed=${{ steps.apply.outputs.deployed }} failed=${{ steps.apply.outputs.failed }}\"
      - run: cp '${{ steps.apply.outputs.report }}' PROJECT/page.html
      - id: hostile
        continue-on-error: true
        uses: ./
        with:
          command: plan
          config: PROJECT/tenantry.yaml
          stage: 'prod\"; touch PROJECT/injected; echo \"'
          binary: BINARY
      - run: test ! -e PROJECT/injected && echo \"SAID hostile=${{ steps.hostile.outputs.exit-code }}\"
";

#[test]
fn the_action_plans_in_one_job_and_applies_in_another() {
    let (bed, project, folder) = (Bed::start(), Project::hello(), tempfile::tempdir().unwrap());
    let workflow = folder.path().join("release.yml");
    fs::write(
        &workflow,
        WORKFLOW.replace("PROJECT", project.path().to_str().unwrap()).replace("BINARY", binary().to_str().unwrap()),
    )
    .unwrap();
    fs::create_dir_all(folder.path().join("act")).unwrap();
    fs::write(folder.path().join("act/actrc"), "").unwrap();

    let mut act = Command::new(python().with_file_name("act"));
    act.current_dir(root()).args(["workflow_dispatch", "-P", "ubuntu-latest=-self-hosted", "-W"]).arg(&workflow);
    act.env("XDG_CONFIG_HOME", folder.path()).env("XDG_CACHE_HOME", folder.path());
    for (name, value) in
        bed.variables().into_iter().chain([("CARGO_TARGET_DIR", target().to_str().unwrap().to_owned())])
    {
        act.args(["--env", &format!("{name}={value}")]);
    }
    let output = act.output().unwrap();
    let log = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert_untold(&log);
    assert!(output.status.success(), "{log}");
    for said in ["SAID code=3 changes=true deployed=1", "SAID code=0 deployed=2 failed=0", "SAID hostile=2"] {
        assert!(log.contains(said), "{said} is missing in {log}");
    }
    assert_eq!(bed.actions("ExecuteChangeSet").len(), 3);
    let page = fs::read_to_string(project.path().join("page.html")).unwrap();
    assert!(page.contains("2 deployed") && page.contains("unicorn/eu-west-1"), "{page}");
}

/// Runs a buildspec's phases as CodeBuild does: all commands of version 0.2 in one shell, one after the other, the
/// build failed by the first that fails; and tells the exported variables.
fn codebuild(bed: &Bed, project: &Project, variables: &[(&str, &str)]) -> (String, bool) {
    let spec: Value = serde_yaml::from_str(&fs::read_to_string(root().join("buildspec.yml")).unwrap()).unwrap();
    assert_eq!(spec["version"].as_f64(), Some(0.2));
    assert_eq!(spec["env"]["shell"].as_str(), Some("bash"));
    let mut script = String::new();
    for (name, value) in spec["env"]["variables"].as_mapping().unwrap() {
        let (name, value) = (name.as_str().unwrap(), value.as_str().unwrap());
        let _ = writeln!(script, ": \"${{{name}={value}}}\"; export {name}");
    }
    for phase in ["install", "pre_build", "build", "post_build"] {
        let commands =
            spec["phases"].get(phase).and_then(|phase| phase["commands"].as_sequence().cloned()).unwrap_or_default();
        for command in commands {
            let command = command.as_str().unwrap();
            let _ = writeln!(script, "{{\n{command}\n}} || {{ echo \"FAILED in {phase}\"; exit 1; }}");
        }
    }
    for name in spec["env"]["exported-variables"].as_sequence().unwrap() {
        let name = name.as_str().unwrap();
        let _ = writeln!(script, "echo \"EXPORTED {name}=${name}\"");
    }
    let output = Command::new("bash")
        .current_dir(project.path())
        .args(["-c", &script])
        .env("CODEBUILD_SRC_DIR", project.path())
        .env("CODEBUILD_SRC_DIR_tenantry", root())
        .env("CODEBUILD_BUILD_ID", "build:1")
        .env("CODEBUILD_INITIATOR", "codepipeline/release")
        .env("CARGO_TARGET_DIR", target())
        .envs(bed.variables())
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert_untold(&log);
    (log, output.status.success())
}

#[test]
fn the_buildspec_deploys_and_applies_and_exports_what_later_actions_need() {
    let (bed, project) = (Bed::start(), Project::hello());
    let (log, succeeded) = codebuild(&bed, &project, &[]);
    assert!(succeeded, "{log}");
    assert!(
        log.contains("EXPORTED TENANTRY_EXIT_CODE=3") && log.contains("EXPORTED TENANTRY_HAS_CHANGES=true"),
        "{log}"
    );
    let exported = log.lines().find_map(|line| line.strip_prefix("EXPORTED TENANTRY_PLAN_DIGEST="));
    let digest = exported.filter(|digest| digest.len() == 64).unwrap_or_else(|| panic!("no digest in {log}"));
    assert_eq!(bed.actions("AssumeRole")[0]["SourceIdentity"], "codepipeline-release");

    let built = binary();
    let arguments = format!("{digest} --approve {digest}");
    let apply = [
        ("TENANTRY_COMMAND", "apply"),
        ("TENANTRY_ARGUMENTS", &arguments),
        ("TENANTRY_BINARY", built.to_str().unwrap()),
    ];
    let (log, succeeded) = codebuild(&bed, &project, &apply);
    assert!(succeeded && log.contains("EXPORTED TENANTRY_EXIT_CODE=0"), "{log}");
    assert_eq!(bed.actions("ExecuteChangeSet").len(), 3);

    let (log, succeeded) = codebuild(
        &bed,
        &project,
        &[
            ("TENANTRY_BINARY", built.to_str().unwrap()),
            ("TENANTRY_COMMAND", "plan"),
            ("TENANTRY_ARGUMENTS", "--stage nowhere"),
        ],
    );
    assert!(!succeeded && log.contains("there is no stage `nowhere`"), "{log}");
}

/// What a pipeline of `tenantry bootstrap pipeline` does beside: the binary comes from the bucket and is what its name says,
/// a build runs before packaging only, and without a digest there is nothing to approve.
#[test]
fn the_buildspec_takes_its_binary_from_the_bucket_and_skips_a_plan_without_changes() {
    let (bed, project) = (Bed::start(), Project::hello());
    let script = "#!/bin/sh\necho \"tool $*\"\n";
    let put = format!(
        "import hashlib\nbody = {script:?}.encode()\nname = hashlib.sha256(body).hexdigest()\n\
         client('s3').put_object(Bucket='{}', Key='tenantry/tool/' + name, Body=body, ServerSideEncryption='aws:kms', SSEKMSKeyId='{}')\n\
         client('s3').put_object(Bucket='{0}', Key='tenantry/tool/' + '0' * 64, Body=body, ServerSideEncryption='aws:kms', SSEKMSKeyId='{1}')\n\
         print(name)",
        bed.fact("bucket"),
        bed.fact("kms_key")
    );
    let name = bed.boto3("111111111111", &put).trim().to_owned();
    let cli = python().ancestors().nth(3).unwrap().join("aws-cli/bin");
    assert!(cli.exists(), "{} is not there: run `make cli`", cli.display());
    let path = format!("{}:{}", cli.display(), std::env::var("PATH").unwrap());
    let object = |name: &str| format!("s3://{}/tenantry/tool/{name}", bed.fact("bucket"));
    let built = object(&name);
    let common = [
        ("PATH", path.as_str()),
        ("AWS_REGION", "eu-west-1"),
        ("TENANTRY_BINARY_OBJECT", built.as_str()),
        ("TENANTRY_BUILD", "touch built"),
    ];
    let package = [&common[..], &[("TENANTRY_COMMAND", "package")]].concat();
    let (log, succeeded) = codebuild(&bed, &project, &package);
    assert!(succeeded && log.contains("tool package") && project.path().join("built").exists(), "{log}");
    fs::remove_file(project.path().join("built")).unwrap();
    for (command, arguments) in [("approve", " --from-codepipeline"), ("apply", " --wait-for-lock 1h")] {
        let empty = [&common[..], &[("TENANTRY_COMMAND", command), ("TENANTRY_ARGUMENTS", arguments)]].concat();
        let (log, succeeded) = codebuild(&bed, &project, &empty);
        assert!(succeeded && log.contains(&format!("there is nothing to {command}")), "{log}");
        assert!(!log.contains(&format!("tool {command}")) && !project.path().join("built").exists(), "{log}");
    }
    let other = object(&"0".repeat(64));
    let wrong = [&common[..2], &[("TENANTRY_BINARY_OBJECT", other.as_str()), ("TENANTRY_COMMAND", "check")]].concat();
    let (log, succeeded) = codebuild(&bed, &project, &wrong);
    assert!(!succeeded && log.contains("did NOT match"), "{log}");
}
