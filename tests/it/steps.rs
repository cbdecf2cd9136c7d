//! The GitHub action and the CodeBuild step, executed as they are written.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::bed::{Bed, Project, act, assert_untold, binary, python, root, static_binary, target, tenantry};

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

/// What stands in for `actions/cache`: it has the static binary, where that was built already, as `make test` does. Where it has
/// not, the action builds it.
fn cache(folder: &Path) -> String {
    let text = fs::read_to_string(root().join("action.yml")).unwrap();
    let used = text.lines().find_map(|line| line.trim().strip_prefix("uses: actions/cache@")).unwrap();
    let built = static_binary();
    let script = format!(
        "[ ! -x {0} ] || {{ mkdir -p \"$TO\"; cp {0} \"$TO\"; echo hit=true >>\"$GITHUB_OUTPUT\"; }}",
        built.display()
    );
    let action = format!(
        "name: cache\ndescription: A stand-in\ninputs: {{ path: {{}}, key: {{}} }}\n\
         outputs: {{ cache-hit: {{ value: '${{{{ steps.take.outputs.hit }}}}' }} }}\n\
         runs:\n  using: composite\n  steps:\n    - id: take\n      shell: bash\n      env: {{ TO: '${{{{ inputs.path }}}}' }}\n      run: '{script}'\n"
    );
    let at = folder.join("cache");
    fs::create_dir_all(&at).unwrap();
    fs::write(at.join("action.yml"), action).unwrap();
    format!("actions/cache@{}={}", used.split(' ').next().unwrap(), at.display())
}

#[test]
fn the_action_plans_in_one_job_and_applies_in_another() {
    let (bed, project, folder) = (Bed::start(), Project::hello(), tempfile::tempdir().unwrap());
    let workflow = folder.path().join("release.yml");
    fs::write(
        &workflow,
        WORKFLOW.replace("PROJECT", project.path().to_str().unwrap()).replace("BINARY", binary().to_str().unwrap()),
    )
    .unwrap();
    let cache = cache(folder.path());
    let mut act = act(root(), folder.path());
    act.args(["workflow_dispatch", "-P", "ubuntu-latest=-self-hosted", "-W"]).arg(&workflow);
    act.args(["--local-repository", &cache]);
    // The action's own build finds its dependencies in the tests' target folder.
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

/// Runs a buildspec's phases as CodeBuild does (`tests/bed/codebuild.py`), and tells the exported variables.
fn codebuild(bed: &Bed, project: &Project, buildspec: &str, variables: &[(&str, &str)]) -> (String, bool) {
    let script = Command::new(python()).arg(root().join("tests/bed/codebuild.py")).arg(root().join(buildspec)).output();
    let script = script.unwrap();
    assert!(script.status.success(), "{}", String::from_utf8_lossy(&script.stderr));
    let script = String::from_utf8(script.stdout).unwrap();
    // Each build begins with the sources alone.
    let _ = fs::remove_dir_all(project.path().join("tenantry-reports"));
    let _ = fs::remove_file(project.path().join("outputs"));
    let output = Command::new("bash")
        .current_dir(project.path())
        .args(["-c", &script])
        // A build has its own environment, whatever system runs this test.
        .env_clear()
        .envs(std::env::vars_os().filter(|(name, _)| {
            ["PATH", "HOME", "CARGO_HOME", "RUSTUP_HOME", "TMPDIR"].iter().any(|kept| name == kept)
        }))
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
    let (log, succeeded) = codebuild(&bed, &project, "buildspec.yml", &[]);
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
    let (log, succeeded) = codebuild(&bed, &project, "buildspec.yml", &apply);
    assert!(succeeded && log.contains("EXPORTED TENANTRY_EXIT_CODE=0"), "{log}");
    assert_eq!(bed.actions("ExecuteChangeSet").len(), 3);
    let junit = fs::read_to_string(project.path().join("tenantry-reports/rollout.xml")).unwrap();
    assert_eq!(junit.matches("<testcase ").count(), 2, "{junit}");

    let (log, succeeded) = codebuild(
        &bed,
        &project,
        "buildspec.yml",
        &[
            ("TENANTRY_BINARY", built.to_str().unwrap()),
            ("TENANTRY_COMMAND", "plan"),
            ("TENANTRY_ARGUMENTS", "--stage nowhere"),
        ],
    );
    assert!(!succeeded && log.contains("there is no stage `nowhere`"), "{log}");
    let junit = fs::read_to_string(project.path().join("tenantry-reports/rollout.xml")).unwrap();
    assert!(junit.contains("name=\"plan\"><failure message=\"exit code 2\"/>"), "{junit}");
}

/// Puts a program into the bucket, as `tenantry bootstrap pipeline` does, and returns its digest.
fn put_tool(bed: &Bed, script: &str) -> String {
    let put = format!(
        "import hashlib\nbody = {script:?}.encode()\nname = hashlib.sha256(body).hexdigest()\n\
         client('s3').put_object(Bucket='{}', Key='tenantry/tool/' + name, Body=body, ServerSideEncryption='aws:kms', SSEKMSKeyId='{}')\n\
         print(name)",
        bed.fact("bucket"),
        bed.fact("kms_key")
    );
    bed.boto3("111111111111", &put).trim().to_owned()
}

/// Returns the search path with the AWS CLI, which a build's image has.
fn with_aws_cli() -> String {
    let cli = python().ancestors().nth(3).unwrap().join("aws-cli/bin");
    assert!(cli.exists(), "{} is not there: run `make cli`", cli.display());
    format!("{}:{}", cli.display(), std::env::var("PATH").unwrap())
}

/// What a pipeline of `tenantry bootstrap pipeline` does beside: the binary comes from the bucket and is what its name says,
/// a build runs before packaging only, and without a digest there is nothing to approve.
#[test]
fn the_buildspec_takes_its_binary_from_the_bucket_and_skips_a_plan_without_changes() {
    let (bed, project) = (Bed::start(), Project::hello());
    let script = "#!/bin/sh\necho \"tool $*\"\n";
    let name = put_tool(&bed, script);
    bed.boto3("111111111111", &format!(
        "client('s3').copy_object(Bucket='{0}', Key='tenantry/tool/' + '0' * 64, CopySource='{0}/tenantry/tool/{name}', ServerSideEncryption='aws:kms', SSEKMSKeyId='{1}')",
        bed.fact("bucket"),
        bed.fact("kms_key")
    ));
    let path = with_aws_cli();
    let object = |name: &str| format!("s3://{}/tenantry/tool/{name}", bed.fact("bucket"));
    let built = object(&name);
    let common = [
        ("PATH", path.as_str()),
        ("AWS_REGION", "eu-west-1"),
        ("TENANTRY_BINARY_OBJECT", built.as_str()),
        ("TENANTRY_BUILD", "touch built"),
    ];
    let package = [&common[..], &[("TENANTRY_COMMAND", "package")]].concat();
    let (log, succeeded) = codebuild(&bed, &project, "buildspec.yml", &package);
    assert!(succeeded && log.contains("tool package") && project.path().join("built").exists(), "{log}");
    fs::remove_file(project.path().join("built")).unwrap();
    for (command, arguments) in [("approve", " --from-codepipeline"), ("apply", " --wait-for-lock 1h")] {
        let empty = [&common[..], &[("TENANTRY_COMMAND", command), ("TENANTRY_ARGUMENTS", arguments)]].concat();
        let (log, succeeded) = codebuild(&bed, &project, "buildspec.yml", &empty);
        assert!(succeeded && log.contains(&format!("there is nothing to {command}")), "{log}");
        assert!(!log.contains(&format!("tool {command}")) && !project.path().join("built").exists(), "{log}");
    }
    let other = object(&"0".repeat(64));
    let wrong = [&common[..2], &[("TENANTRY_BINARY_OBJECT", other.as_str()), ("TENANTRY_COMMAND", "check")]].concat();
    let (log, succeeded) = codebuild(&bed, &project, "buildspec.yml", &wrong);
    assert!(!succeeded && log.contains("did NOT match"), "{log}");
}

/// The three buildspecs of examples/, one after the other, as a pipeline hands on what they export.
#[test]
fn the_example_buildspecs_build_plan_and_apply() {
    let (bed, project) = (Bed::start(), Project::hello());
    let path = with_aws_cli();
    let tool = put_tool(&bed, &format!("#!/bin/sh\nexec {} \"$@\"\n", binary().display()));
    let object = format!("s3://{}/tenantry/tool/{tool}", bed.fact("bucket"));
    let home = tempfile::tempdir().unwrap();
    let common = [
        ("PATH", path.as_str()),
        ("HOME", home.path().to_str().unwrap()),
        ("AWS_REGION", "eu-west-1"),
        ("TENANTRY_BINARY_OBJECT", object.as_str()),
    ];
    let run = |buildspec: &str, more: &[(&str, &str)]| {
        let (log, succeeded) =
            codebuild(&bed, &project, &format!("examples/buildspecs/{buildspec}"), &[&common[..], more].concat());
        assert!(succeeded, "{buildspec}: {log}");
        log
    };
    let exported = |log: &str, name: &str| {
        let line = format!("EXPORTED {name}=");
        log.lines().find_map(|text| text.strip_prefix(&line)).unwrap_or_else(|| panic!("no {name} in {log}")).to_owned()
    };
    let release = exported(&run("build.yml", &[]), "TENANTRY_RELEASE");
    assert!(project.path().join(".tenantry-cache").exists());
    let log = run("plan.yml", &[("TENANTRY_RELEASE", &release)]);
    assert_eq!(exported(&log, "TENANTRY_HAS_CHANGES"), "true");
    assert!(exported(&log, "TENANTRY_PLAN_SUMMARY").contains("2 targets"), "{log}");
    let digest = exported(&log, "TENANTRY_PLAN_DIGEST");
    tenantry(&bed, &project, &["approve", &digest]).exits(0);
    let log = run("apply.yml", &[("TENANTRY_PLAN_DIGEST", &digest)]);
    assert_eq!(exported(&log, "TENANTRY_EXIT_CODE"), "0");
    let reports = project.path().join("tenantry-reports");
    assert_eq!(fs::read_to_string(reports.join("rollout.xml")).unwrap().matches("<testcase ").count(), 2);
    assert!(fs::read_to_string(reports.join("rollout.html")).unwrap().contains("2 deployed"));

    let log = run("plan.yml", &[("TENANTRY_RELEASE", &release)]);
    assert_eq!(
        (exported(&log, "TENANTRY_HAS_CHANGES"), exported(&log, "TENANTRY_PLAN_DIGEST")),
        ("false".into(), String::new())
    );
    let log = run("apply.yml", &[("TENANTRY_PLAN_DIGEST", "")]);
    assert!(log.contains("there is nothing to apply") && reports.join("rollout.xml").exists(), "{log}");
}
