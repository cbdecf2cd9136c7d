//! The same bytes from stage to stage and back: promotion, rollback, pins, variants, and who is on what.

use serde_json::Value;

use crate::bed::{Bed, PLANTED, Project, command, ran, snapshot, tenantry, tenantry_as};
use crate::deploy::deployed;

/// Approves the plan that a run waits for, and applies it.
fn approved(bed: &Bed, project: &Project, arguments: &[&str]) -> Value {
    let waiting = tenantry(bed, project, &[arguments, &["--output", "json"]].concat()).exits(3).json();
    let digest = waiting["stages"][0]["plan_digest"].as_str().or(waiting["stages"][0]["plan-digest"].as_str());
    let digest = digest.unwrap().to_owned();
    tenantry_as("approver", bed, project, &["approve", &digest]).exits(0);
    tenantry(bed, project, &["apply", &digest, "--output", "json"]).exits(0).json()
}

/// ETag and sha256 of every artifact in the store.
fn bytes_in_store(bed: &Bed) -> String {
    bed.boto3(
        "111111111111",
        &format!(
            "import hashlib\ns3 = client('s3')\nfor o in s3.list_objects_v2(Bucket='{0}', Prefix='CrossAccountPipeline/')['Contents']:\n  \
             a = s3.get_object(Bucket='{0}', Key=o['Key'])\n  print(o['Key'], a['ETag'], hashlib.sha256(a['Body'].read()).hexdigest())",
            bed.fact("bucket")
        ),
    )
}

#[test]
fn the_bytes_that_ran_in_dev_are_promoted() {
    let (bed, project) = (Bed::start(), Project::hello());
    let dev = tenantry(&bed, &project, &["deploy", "--stage", "dev", "--output", "json"]).exits(0).json();
    let release = dev["release"].as_str().unwrap().to_owned();
    let before = bytes_in_store(&bed);
    // What is in the folder by now does not matter.
    project.replace("src/index.js", "it greets", "it says hello");
    bed.forget();
    let prod = approved(&bed, &project, &["promote", &release, "--to", "prod"]);
    assert_eq!(prod["release"], dev["release"]);
    assert_eq!(bytes_in_store(&bed), before);
    assert_eq!(before.lines().count(), 2);
    for line in before.lines() {
        let [key, _, sha256] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        assert!(key.contains(sha256), "{line}");
    }
    assert!(!bed.written().iter().any(|key| key.starts_with("CrossAccountPipeline/")), "nothing is sent again");
    let keys: Vec<Value> =
        bed.actions("CreateChangeSet").iter().map(|request| request["TemplateURL"].clone()).collect();
    assert!(keys.iter().all(|url| before.contains(url.as_str().unwrap().rsplit('/').next().unwrap())), "{keys:?}");

    // What has not run in dev is not promoted, unless somebody says so, and then the plan says it.
    let package = tenantry(&bed, &project, &["package", "--output", "json"]).exits(0).json();
    let newer = package["id"].as_str().unwrap();
    snapshot("not-finished", &tenantry(&bed, &project, &["promote", newer, "--to", "prod"]).exits(4).stderr);
    let skipped = tenantry(&bed, &project, &["promote", newer, "--to", "prod", "--skip-stage-check"]).exits(3);
    assert!(skipped.stderr.contains("promoted WITHOUT having finished in dev"), "{}", skipped.stderr);

    // Bytes that somebody has exchanged are noticed.
    bed.edit("/artifacts/", "body + b'x'");
    bed.forget();
    let refused = tenantry(&bed, &project, &["promote", &release, "--to", "prod"]).exits(2);
    assert!(refused.stderr.contains("has another content than its name says"), "{}", refused.stderr);
    assert_eq!(bed.actions("CreateChangeSet").len(), 0);
}

/// What was built is in the store: who promotes it has nothing to build.
#[test]
fn what_is_in_the_store_is_promoted_where_nothing_was_built() {
    let (bed, project) = (Bed::start(), Project::hello());
    let dev = tenantry(&bed, &project, &["deploy", "--stage", "dev", "--output", "json"]).exits(0).json();
    let release = dev["release"].as_str().unwrap();
    std::fs::remove_file(project.path().join("application.yaml")).unwrap();
    std::fs::remove_dir_all(project.path().join("src")).unwrap();
    let prod = approved(&bed, &project, &["promote", release, "--to", "prod"]);
    assert_eq!(prod["release"], dev["release"]);
    assert_eq!(prod["stages"][0]["counts"]["deployed"], 2);
    let releases = tenantry(&bed, &project, &["releases"]).exits(0).stdout;
    assert!(releases.contains("dev 1, prod 2"), "{releases}");
    let report = tenantry(&bed, &project, &["report", prod["stages"][0]["rollout"].as_str().unwrap()]).exits(0).stdout;
    assert!(report.contains("2 deployed"), "{report}");
    // A release of what is not there is none.
    let refused = tenantry(&bed, &project, &["package"]).exits(2).stderr;
    assert!(refused.contains("cannot read the template application.yaml: it does not exist"), "{refused}");
}

#[test]
fn one_tenant_goes_back_and_then_lags() {
    let (bed, project) = (Bed::start(), Project::hello());
    let old = deployed(&bed, &project)["release"].as_str().unwrap().to_owned();
    project.replace("src/index.js", "it greets", "it says hello");
    let new = deployed(&bed, &project)["release"].as_str().unwrap().to_owned();
    bed.forget();
    let back = approved(&bed, &project, &["rollback", "--tenant", "gnome"]);
    assert_eq!(back["release"], old.as_str());
    assert_eq!(bed.actions("ExecuteChangeSet").len(), 1);

    let status = tenantry(&bed, &project, &["status", "--stage", "prod"]).exits(0);
    assert!(status.stdout.contains("1 target lags: gnome/eu-west-1"), "{}", status.stdout);
    let releases = tenantry(&bed, &project, &["releases"]).exits(0).stdout;
    let line = |release: &str| releases.lines().find(|line| line.starts_with(release)).unwrap().to_owned();
    assert!(line(&new).contains("dev 1, prod 1") && line(&old).contains("prod 1"), "{releases}");

    // Only who is not on the newer one is meant.
    let plan =
        tenantry(&bed, &project, &["plan", "--stage", "prod", "--release", &new, "--not-on", &new, "--output", "json"]);
    let plan = plan.exits(0).json();
    let targets = plan["content"]["targets"].as_array().unwrap();
    assert_eq!(targets.len(), 1);
    assert_eq!(targets[0]["target"]["tenant"], "gnome");
    let digest = plan["digest"].as_str().unwrap();
    tenantry(&bed, &project, &["apply", digest, "--approve", digest]).exits(0);

    // A whole stage goes back by the same gate.
    let all = approved(&bed, &project, &["rollback", "--to", &old, "--stage", "prod"]);
    assert_eq!(all["stages"][0]["counts"]["deployed"], 2);
}

/// What had to be rolled back in a stage has not finished there any more.
#[test]
fn a_release_that_was_rolled_back_is_not_promoted() {
    let (bed, project) = (Bed::start(), Project::hello());
    let deploy = || -> String {
        let dev = tenantry(&bed, &project, &["deploy", "--stage", "dev", "--output", "json"]).exits(0).json();
        dev["release"].as_str().unwrap().to_owned()
    };
    let old = deploy();
    project.replace("src/index.js", "it greets", "it says hello");
    let new = deploy();
    tenantry(&bed, &project, &["rollback", "--stage", "dev"]).exits(0);
    tenantry(&bed, &project, &["promote", &new, "--to", "prod"]).exits(4);
    tenantry(&bed, &project, &["promote", &old, "--to", "prod"]).exits(3);
    // It finishes once more, and is proved again.
    assert_eq!(deploy(), new);
    let promoted = tenantry(&bed, &project, &["promote", &new, "--to", "prod", "--output", "json"]).exits(3).json();
    let digest = promoted["stages"][0]["plan-digest"].as_str().unwrap();
    // What was true when it was planned has to be true when it is executed.
    tenantry(&bed, &project, &["rollback", "--stage", "dev"]).exits(0);
    bed.forget();
    let late = tenantry(&bed, &project, &["apply", digest, "--approve", digest]).exits(4);
    assert!(late.stderr.contains("counts as finished in dev no longer"), "{}", late.stderr);
    assert_eq!(bed.actions("ExecuteChangeSet").len(), 0);
}

#[test]
fn the_failed_of_a_rollout_are_selected() {
    let (bed, project) = (Bed::start(), Project::hello());
    deployed(&bed, &project);
    project.replace(
        "tenants.yaml",
        "  roles:\n",
        "  parameters:\n    S3Key: CrossAccountPipeline/shared/missing.zip\n  roles:\n",
    );
    let digest = crate::deploy::planned(&bed, &project);
    let failed =
        tenantry(&bed, &project, &["apply", &digest, "--approve", &digest, "--output", "json"]).exits(1).json();
    let rollout = failed["stages"][0]["rollout"].as_str().unwrap().to_owned();
    project.replace("tenants.yaml", "  parameters:\n    S3Key: CrossAccountPipeline/shared/missing.zip\n", "");
    project.replace("src/index.js", "it greets", "it says hello");
    let plan = tenantry(&bed, &project, &["plan", "--stage", "prod", "--failed-in", &rollout, "--output", "json"])
        .exits(0)
        .json();
    let targets = plan["content"]["targets"].as_array().unwrap();
    assert_eq!(targets.len(), 1, "{targets:?}");
    assert_eq!(targets[0]["target"]["tenant"], "gnome");
    tenantry(&bed, &project, &["plan", "--stage", "prod", "--failed-in", "nothing"]).exits(2);
}

#[test]
fn a_pinned_tenant_stays_where_it_is_and_everything_says_so() {
    let (bed, project) = (Bed::start(), Project::hello());
    let old = deployed(&bed, &project)["release"].as_str().unwrap().to_owned();
    project.replace("tenants.yaml", "- name: gnome\n", &format!("- name: gnome\n  pin: \"{old}\"\n"));
    project.replace("src/index.js", "it greets", "it says hello");
    bed.forget();
    let plan = tenantry(&bed, &project, &["plan", "--stage", "prod"]).exits(0);
    assert!(plan.stdout.contains(&format!("pinned to {old} 1 target: gnome/eu-west-1")), "{}", plan.stdout);
    let run = deployed(&bed, &project);
    assert_eq!(run["stages"][1]["counts"], serde_json::json!({"deployed": 1, "pinned": 1}));
    assert!(
        !bed.actions("CreateChangeSet").iter().any(|request| request["StackName"].as_str().unwrap().contains("gnome"))
    );
    let status = tenantry(&bed, &project, &["status", "--stage", "prod"]).exits(0);
    assert!(status.stdout.contains(&format!("lags, pinned to {old}")), "{}", status.stdout);
    assert!(tenantry(&bed, &project, &["releases"]).exits(0).stdout.contains("gnome"));
    project.replace("tenants.yaml", &format!("pin: \"{old}\""), "pin: latest");
    snapshot("bad-pin", &tenantry(&bed, &project, &["check"]).exits(2).stderr);
}

#[test]
fn a_tenant_can_have_an_artifact_of_its_own() {
    let (bed, project) = (Bed::start(), Project::hello());
    let code = std::fs::read_to_string(project.path().join("src/index.js")).unwrap();
    project.write("variants/gnome/index.js", &code.replace("it greets", "it greets gnomes"));
    project.replace(
        "tenants.yaml",
        "- name: gnome\n",
        "- name: gnome\n  artifacts:\n    code: { path: variants/gnome/ }\n",
    );
    deployed(&bed, &project);
    let artifacts: Vec<String> = bed.written().into_iter().filter(|key| key.contains("/artifacts/")).collect();
    assert_eq!(artifacts.len(), 2, "{artifacts:?}");
    assert!(
        artifacts.iter().any(|key| key.starts_with("CrossAccountPipeline/444444444444/SampleApplication/artifacts/"))
    );
    let deployed_key = |account: &str, tenant: &str| {
        bed.boto3(
            account,
            &format!(
                "s = client('cloudformation').describe_stacks(StackName='SampleApplication-{tenant}-stack-eu-west-1')['Stacks'][0]\n\
                 print([p['ParameterValue'] for p in s['Parameters'] if p['ParameterKey'] == 'S3Key'][0])"
            ),
        )
    };
    assert!(deployed_key("444444444444", "gnome").starts_with("CrossAccountPipeline/444444444444/"));
    assert!(deployed_key("333333333333", "unicorn").starts_with("CrossAccountPipeline/shared/"));
}

/// A value from the job's environment is a secret everywhere, GitHub's runner is told to hide it, and another value
/// is another plan.
#[test]
fn a_parameter_from_the_environment_or_from_before_is_never_told() {
    let (bed, project) = (Bed::start(), Project::hello());
    project.replace(
        "application.yaml",
        "Resources:\n",
        "  Password:\n    Type: String\n    NoEcho: true\n\nResources:\n",
    );
    project.replace(
        "application.yaml",
        "      Timeout: 10\n",
        "      Timeout: 10\n      Environment:\n        Variables:\n          DB_PASSWORD: !Ref Password\n",
    );
    project.replace("tenantry.yaml", "parameters:\n", "parameters:\n  Password: \"{environment.DB_PASSWORD}\"\n");
    let run = |value: Option<&str>, arguments: &[&str]| {
        let mut command = command(&project, Some(&bed), arguments);
        command.env("GITHUB_ACTIONS", "true").envs(value.map(|value| ("DB_PASSWORD", value)));
        ran(command)
    };
    snapshot("no-variable", &run(None, &["plan", "--stage", "prod"]).exits(2).stderr);
    project.replace("tenantry.yaml", "tags:\n", "tags:\n  password: \"{environment.DB_PASSWORD}\"\n");
    snapshot("variable-in-a-tag", &run(Some(PLANTED[1]), &["check"]).exits(2).stderr);
    project.replace("tenantry.yaml", "  password: \"{environment.DB_PASSWORD}\"\n", "");
    let plan = run(Some(PLANTED[1]), &["plan", "--stage", "prod", "--output", "json"]).exits(0);
    assert!(plan.stderr.contains(&format!("::add-mask::{}\n", PLANTED[1])), "{}", plan.stderr);
    let digest = plan.json()["digest"].as_str().unwrap().to_owned();
    run(Some("another-value"), &["apply", &digest, "--approve", &digest]).exits(4);
    run(Some(PLANTED[1]), &["apply", &digest, "--approve", &digest, "--log-format", "json", "--output", "json"])
        .exits(0);

    // From now on the stack's own value stays, and the job needs none.
    project.replace("tenantry.yaml", "Password: \"{environment.DB_PASSWORD}\"", "Password: \"{previous}\"");
    project.replace("src/index.js", "it greets", "it says hello");
    bed.forget();
    let plan = run(None, &["plan", "--stage", "prod", "--output", "json"]).exits(0).json();
    assert!(plan["content"]["targets"][0]["parameters"]["Password"].is_null());
    let digest = plan["digest"].as_str().unwrap();
    run(None, &["apply", digest, "--approve", digest]).exits(0);
    let password = bed.boto3(
        "333333333333",
        "print(client('lambda').get_function_configuration(FunctionName='SampleApplication-unicorn')['Environment']['Variables'])",
    );
    assert!(password.contains(PLANTED[1]), "the function has it still: {password}");
    let records = bed.records();
    assert!(!PLANTED.iter().any(|secret| records.contains(secret)), "{records}");
    // There is nothing before the first time.
    let first = run(None, &["deploy", "--stage", "dev"]).exits(1);
    assert!(first.stdout.contains("parameter Password has no previous value"), "{}", first.stdout);
}
