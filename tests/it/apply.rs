//! What happens when targets fail, when plans are not what they were, and when a run is stopped.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use crate::bed::{Bed, Project, command, root, snapshot, tenantry};
use crate::deploy::{deployed, planned};

/// The hello example with a bucket, whose name gnome cannot have.
fn with_a_bucket() -> Project {
    let project = Project::hello();
    project.replace("application.yaml", "Resources:\n", "  BucketName:\n    Type: String\n\nResources:\n  Data:\n    Type: AWS::S3::Bucket\n    Properties:\n      BucketName: !Ref BucketName\n");
    project.replace("tenantry.yaml", "parameters:\n", "parameters:\n  BucketName: \"{tenant}-data\"\n");
    project.replace(
        "tenants.yaml",
        "  roles:\n",
        "  parameters:\n    BucketName: tenantry-artifacts-111111111111\n  roles:\n",
    );
    project
}

#[test]
fn one_tenant_fails_and_the_other_is_deployed() {
    let (bed, project) = (Bed::start(), with_a_bucket());
    let digest = planned(&bed, &project);
    let run = tenantry(&bed, &project, &["apply", &digest, "--approve", &digest]).exits(1);
    snapshot("one-fails", &run.stdout);
    assert!(run.stderr.contains("[unicorn/eu-west-1] deployed"), "{}", run.stderr);

    let status = tenantry(&bed, &project, &["status", "--stage", "prod", "--output", "json"]).exits(0).json();
    assert_eq!(status[0]["status"], "CREATE_COMPLETE");
    assert_eq!(status[1]["status"], "ROLLBACK_COMPLETE");
    assert_eq!(status[1]["release"], serde_json::Value::Null);

    // The next plan says what is the matter, and destroy helps.
    let blocked = tenantry(&bed, &project, &["plan", "--stage", "prod"]).exits(1);
    snapshot("blocked", &blocked.stdout);
    let destroyed =
        tenantry(&bed, &project, &["destroy", "--stage", "prod", "--tenant", "gnome", "--confirm", "prod"]).exits(0);
    snapshot("destroy", &destroyed.all());
    let status = tenantry(&bed, &project, &["status", "--stage", "prod", "--tenant", "gnome", "--output", "json"])
        .exits(0)
        .json();
    assert_eq!(status[0]["status"], serde_json::Value::Null);
}

/// What CloudFormation finds before it begins is in DescribeEvents alone; what fails later is in the stack's events.
#[test]
fn the_failing_resource_is_named_from_the_stacks_events_too() {
    let (bed, project) = (Bed::start(), Project::hello());
    project.replace(
        "tenants.yaml",
        "  roles:\n",
        "  parameters:\n    S3Key: CrossAccountPipeline/shared/missing.zip\n  roles:\n",
    );
    let digest = planned(&bed, &project);
    let run = tenantry(&bed, &project, &["apply", &digest, "--approve", &digest]).exits(1);
    snapshot("one-fails-late", &run.all());
}

/// The hello example with options for prod's stacks, in which gnome's first creation fails.
fn failing_with(options: &str) -> Project {
    let project = Project::hello();
    let broken = "  parameters:\n    S3Key: CrossAccountPipeline/shared/missing.zip\n  roles:\n";
    project.replace("tenants.yaml", "  roles:\n", broken);
    let gate = "    gate: { approval: required }\n";
    project.replace("tenantry.yaml", gate, &format!("    stack-options: {options}\n"));
    project
}

#[test]
fn what_a_failed_creation_has_left_is_created_anew_where_that_is_wanted() {
    let (bed, project) = (Bed::start(), failing_with("{ leftovers: recreate }"));
    tenantry(&bed, &project, &["deploy", "--stage", "prod"]).exits(1);
    project.replace("tenants.yaml", "  parameters:\n    S3Key: CrossAccountPipeline/shared/missing.zip\n", "");
    let run = tenantry(&bed, &project, &["deploy", "--stage", "prod"]).exits(0);
    assert!(
        run.stderr.contains(
            "gnome/eu-west-1: deleting stack SampleApplication-gnome-stack-eu-west-1, which was never created"
        ),
        "{}",
        run.stderr
    );
    assert!(run.stdout.contains("prod: 1 deployed, 1 unchanged"), "{}", run.stdout);
}

#[test]
fn a_stack_that_fails_is_deleted_or_left_as_it_is_where_that_is_wanted() {
    for (failure, status) in [("delete", None), ("do-nothing", Some("CREATE_FAILED"))] {
        let (bed, project) = (Bed::start(), failing_with(&format!("{{ on-stack-failure: {failure} }}")));
        let run = tenantry(&bed, &project, &["deploy", "--stage", "prod"]).exits(1);
        assert!(
            run.stdout.contains("gnome/eu-west-1    failed: SampleApplication (AWS::Lambda::Function)"),
            "{}",
            run.stdout
        );
        let found = tenantry(&bed, &project, &["status", "--tenant", "gnome", "--output", "json"]).exits(0).json();
        assert_eq!(found[0]["status"].as_str(), status);
    }
}

#[test]
fn a_deployed_stack_is_protected_where_that_is_wanted() {
    let (bed, project) = (Bed::start(), Project::hello());
    let stage = "    tenants: [sandbox]\n";
    project.replace("tenantry.yaml", stage, &format!("{stage}    stack-options: {{ termination-protection: true }}\n"));
    tenantry(&bed, &project, &["deploy", "--stage", "dev"]).exits(0);
    assert_eq!(bed.actions("UpdateTerminationProtection").len(), 1);
    project.replace("src/index.js", "it greets", "it says hello");
    tenantry(&bed, &project, &["deploy", "--stage", "dev"]).exits(0);
    assert_eq!(bed.actions("UpdateTerminationProtection").len(), 1, "it is known to be protected");
    let stack = "print(client('cloudformation').describe_stacks()['Stacks'][0]['EnableTerminationProtection'])";
    assert_eq!(bed.boto3("222222222222", stack).trim(), "True");
}

#[test]
fn a_check_that_does_not_hold_makes_the_target_failed() {
    let (bed, project) = (Bed::start(), Project::hello());
    project.replace("src/index.js", "statusCode: 200", "statusCode: 500");
    let run = tenantry(&bed, &project, &["deploy", "--stage", "dev"]).exits(1);
    snapshot("check-fails", &run.stdout);
}

#[test]
fn an_output_is_fetched_and_its_status_compared() {
    let (bed, project) = (Bed::start(), Project::hello());
    project.replace(
        "application.yaml",
        "Outputs:\n",
        &format!("Outputs:\n  Url:\n    Value: {}/_ministack/\n", bed.fact("endpoint")),
    );
    project.replace(
        "tenantry.yaml",
        "    tenants: [sandbox]\n    verify:\n",
        "    tenants: [sandbox]\n    verify:\n      - fetch: Url\n        path: /health\n        timeout: 5s\n",
    );
    tenantry(&bed, &project, &["deploy", "--stage", "dev"]).exits(0);
    project.replace("tenantry.yaml", "        timeout: 5s\n", "        timeout: 5s\n        status: 418\n");
    project.replace("src/index.js", "one function", "one other function");
    let run = tenantry(&bed, &project, &["deploy", "--stage", "dev"]).exits(1);
    snapshot("fetch-fails", &run.stdout);
}

/// Safety rule 2, over the wire: an approval is for what CloudFormation would do, and for nothing else.
#[test]
fn a_plan_is_refused_when_anything_is_different_now() {
    let (bed, project) = (Bed::start(), Project::hello());
    let digest = planned(&bed, &project);
    let apply = || tenantry(&bed, &project, &["apply", &digest, "--approve", &digest]);

    let other = "0".repeat(64);
    snapshot("unfit-approval", &tenantry(&bed, &project, &["apply", &digest, "--approve", &other]).exits(4).all());
    snapshot("no-such-plan", &tenantry(&bed, &project, &["apply", &other]).exits(2).stderr);

    project.replace(
        "tenants.yaml",
        "- name: unicorn\n",
        "- name: another\n  account: \"555555555555\"\n\n- name: unicorn\n",
    );
    snapshot("another-target", &apply().exits(4).stderr);
    project.replace("tenants.yaml", "- name: another\n  account: \"555555555555\"\n\n", "");

    project.replace("tenantry.yaml", "ApplicationName: \"{application}-{tenant}\"", "ApplicationName: \"{tenant}\"");
    snapshot("other-parameters", &apply().exits(4).stderr);
    project.replace("tenantry.yaml", "ApplicationName: \"{tenant}\"", "ApplicationName: \"{application}-{tenant}\"");

    let record = format!("plans/{digest}");
    bed.edit(&record, "body.replace(b'gnome', b'gnomf')");
    snapshot("edited-plan", &apply().exits(4).stderr);
    bed.edit(&record, "body.replace(b'gnomf', b'gnome')");

    bed.edit("/artifacts/", "body + b'x'");
    snapshot("another-artifact", &apply().exits(4).stderr);
    bed.edit("/artifacts/", "body[:-1]");

    let remove = "cf = client('cloudformation'); stack = 'SampleApplication-unicorn-stack-eu-west-1'\n\
        name = cf.list_change_sets(StackName=stack)['Summaries'][0]['ChangeSetName']\n\
        cf.delete_change_set(StackName=stack, ChangeSetName=name)";
    assert_eq!(bed.actions("ExecuteChangeSet").len(), 0);
    // A change set that is gone is made again: it says the same, so that the approval holds.
    bed.boto3("333333333333", remove);
    let run = apply().exits(0);
    assert!(
        run.stderr.contains("unicorn/eu-west-1: the change set was no longer valid and was made again"),
        "{}",
        run.stderr
    );
    assert_eq!(bed.actions("ExecuteChangeSet").len(), 2);
}

/// Safety rule 6, over the wire: CodeBuild and GitHub send SIGTERM before they kill, and a person at a terminal SIGINT.
#[test]
fn a_stop_detaches_and_says_so() {
    for signal in ["TERM", "INT"] {
        stopped_by(signal);
    }
}

fn stopped_by(signal: &str) {
    let (bed, project) = (Bed::with(&["--delay", "3"]), Project::hello());
    let mut child = command(&project, Some(&bed), &["deploy", "--stage", "dev"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut heard = String::new();
    let mut reader = BufReader::new(child.stderr.take().unwrap());
    while !heard.contains("CREATE_IN_PROGRESS") {
        assert!(reader.read_line(&mut heard).unwrap() > 0, "{heard}");
    }
    assert!(Command::new("kill").args(["-s", signal, &child.id().to_string()]).status().unwrap().success());
    for line in reader.lines() {
        heard.push_str(&line.unwrap());
    }
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(6), "{heard}");
    assert!(heard.contains(&format!("SIG{signal}: nothing new is started")), "{heard}");
    assert!(heard.contains("detached: the run was stopped; CloudFormation goes on with the stack"), "{heard}");
    assert_eq!(bed.actions("DeleteStack").len(), 0);
}

/// Safety rule 7: neither a NoEcho value nor an external id is ever written anywhere.
#[test]
fn secrets_are_in_no_output_no_event_and_no_record() {
    let (bed, project) = (Bed::start(), Project::hello());
    let planted = "hunter2-is-the-password";
    project.replace(
        "application.yaml",
        "Resources:\n",
        "  Password:\n    Type: String\n    NoEcho: true\n    AllowedPattern: '[a-z0-9-]+'\n\nResources:\n",
    );
    project.replace("tenantry.yaml", "parameters:\n", &format!("parameters:\n  Password: {planted}\n"));
    let digest = planned(&bed, &project);
    let mut said = String::new();
    for arguments in [
        vec!["plan", "--stage", "prod"],
        vec!["plan", "--stage", "prod", "--output", "json"],
        vec!["deploy", "--log-format", "json", "--approve", &digest, "--output", "json"],
        vec!["status", "--output", "json"],
    ] {
        let run = tenantry(&bed, &project, &arguments).exits(0);
        said.push_str(&run.stdout);
        said.push_str(&run.stderr);
    }
    let records = bed.records();
    assert!(records.contains("hmac-sha256:"), "the plan covers the secret by its keyed hash");
    for text in [&said, &records] {
        assert!(!text.contains(planted) && !text.contains("external-id-of-gnome"), "{text}");
    }
    // Another secret is another plan.
    project.replace("tenantry.yaml", planted, "another-password");
    assert_ne!(planned(&bed, &project), digest);

    project.replace("tenantry.yaml", "another-password", "Not Allowed!");
    let refused = tenantry(&bed, &project, &["check"]).exits(2);
    snapshot("secret-refused", &refused.stderr);
}

/// A person at a terminal types what the plan is about.
#[test]
fn a_person_approves_at_the_terminal() {
    let (bed, project) = (Bed::start(), Project::hello());
    deployed(&bed, &project);
    let typed = |text: &str| {
        let script = root().join("tests/bed/type_at.py");
        let mut command = Command::new(crate::bed::python());
        command
            .arg(script)
            .arg("anything else to")
            .arg(text)
            .arg(crate::bed::binary())
            .args(["deploy", "--stage", "prod"]);
        command.current_dir(project.path()).env_remove("CI").env_remove("CODEBUILD_BUILD_ID").envs(bed.variables());
        let output = command.output().unwrap();
        (String::from_utf8_lossy(&output.stdout).into_owned(), output.status.code().unwrap())
    };
    project.replace("src/index.js", "it greets", "it says hello");
    bed.forget();
    let (screen, code) = typed("yes");
    assert_eq!(code, 4, "{screen}");
    assert!(screen.contains("Type `prod` or the number of targets (2) to apply this plan"), "{screen}");
    assert_eq!(bed.actions("ExecuteChangeSet").len(), 0);
    assert_eq!(bed.actions("DeleteChangeSet").len(), 2, "what was refused is cleared away");
    let (screen, code) = typed("2");
    assert_eq!(code, 0, "{screen}");
    assert_eq!(bed.actions("ExecuteChangeSet").len(), 2);
}

/// Safety rule 7: CloudFormation's reasons can repeat a parameter. Nobody reads it, and no record has it.
#[test]
fn a_secret_that_cloudformation_repeats_is_masked_everywhere() {
    let (bed, project) = (Bed::start(), Project::hello());
    project.replace(
        "application.yaml",
        "Resources:\n",
        "  Secret: { Type: String, NoEcho: true }\n\nResources:\n  Data: { Type: AWS::S3::Bucket, Properties: { BucketName: !Ref Secret } }\n",
    );
    project.replace("tenantry.yaml", "parameters:\n", "parameters:\n  Secret: planted-5ecret\n");
    // The name is taken, and CloudFormation says which.
    bed.boto3("222222222222", "client('s3').create_bucket(Bucket='planted-5ecret', CreateBucketConfiguration={'LocationConstraint': 'eu-west-1'})");
    let failed =
        tenantry(&bed, &project, &["deploy", "--stage", "dev", "--log-format", "json", "--output", "json"]).exits(1);
    assert!(failed.stdout.contains("***"), "the reason names the bucket: {}", failed.stdout);
    assert!(bed.records().contains("hmac-sha256:"), "and so do the records, covered");
}
