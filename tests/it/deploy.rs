//! The main job, from a folder to functions that answer in three accounts.

use serde_json::Value;

use crate::bed::{Bed, Project, command, ran, snapshot, tenantry};

/// Returns the digest of the plan for prod.
pub fn planned(bed: &Bed, project: &Project) -> String {
    let answer = tenantry(bed, project, &["plan", "--stage", "prod", "--output", "json"]).exits(0).json();
    answer["digest"].as_str().unwrap().to_owned()
}

/// Releases the project everywhere, with the approval that prod asks for.
pub fn deployed(bed: &Bed, project: &Project) -> Value {
    let digest = planned(bed, project);
    tenantry(bed, project, &["deploy", "--approve", &digest, "--output", "json"]).exits(0).json()
}

#[test]
fn a_release_goes_to_the_sandbox_waits_at_the_gate_and_goes_on_by_its_digest() {
    let (bed, project) = (Bed::start(), Project::hello());
    let first = tenantry(&bed, &project, &["deploy"]).exits(3);
    snapshot("deploy-waits", &first.all());
    assert_eq!(bed.actions("ExecuteChangeSet").len(), 1, "only the sandbox");

    let digest = planned(&bed, &project);
    assert!(first.stderr.contains(&digest), "planning again gives the same digest");
    let second = tenantry(&bed, &project, &["apply", &digest, "--approve", &digest]).exits(0);
    snapshot("apply", &second.all());
    snapshot("status", &tenantry(&bed, &project, &["status"]).exits(0).stdout);

    let again = tenantry(&bed, &project, &["apply", &digest, "--approve", &digest]).exits(4);
    snapshot("apply-twice", &again.all());
    assert_eq!(bed.actions("ExecuteChangeSet").len(), 3);
}

#[test]
fn what_is_sent_is_what_the_safety_rules_ask_for() {
    let (bed, project) = (Bed::start(), Project::hello());
    bed.forget();
    deployed(&bed, &project);

    let requests = bed.actions("CreateChangeSet");
    assert!(requests.len() >= 3);
    for request in requests {
        let account = ["222222222222", "333333333333", "444444444444"];
        let role = request["RoleARN"].as_str().expect("RoleARN is always sent");
        assert!(
            account.iter().any(|account| role == format!("arn:aws:iam::{account}:role/CloudFormationDeploymentRole"))
        );
        assert!(request["ClientToken"].as_str().unwrap().starts_with("tenantry-"));
        assert_eq!(request["Capabilities.member.1"], "CAPABILITY_IAM");
        assert!(
            request["TemplateURL"]
                .as_str()
                .unwrap()
                .contains("/CrossAccountPipeline/shared/SampleApplication/templates/")
        );
    }
    for request in bed.actions("ExecuteChangeSet") {
        assert!(request["ClientRequestToken"].as_str().unwrap().starts_with("tenantry-"));
    }
    for request in bed.actions("AssumeRole") {
        let tenant = request["Tags.member.1.Value"].as_str().unwrap();
        assert_eq!(request["Tags.member.1.Key"], "TenantID");
        assert!(["sandbox", "unicorn", "gnome"].contains(&tenant));
        assert!(request["RoleSessionName"].as_str().unwrap().starts_with("tenantry-"));
        assert_eq!(request["SourceIdentity"], "builder");
        assert_eq!(request["ExternalId"].as_str(), (tenant == "gnome").then_some("external-id-of-gnome"));
    }
    for request in bed.requests().iter().filter(|request| request["service"] == "s3") {
        let headers = &request["headers"];
        assert_eq!(headers["x-amz-expected-bucket-owner"], "111111111111", "{request}");
        if request["method"] == "PUT" {
            assert_eq!(headers["x-amz-server-side-encryption"], "aws:kms");
            assert_eq!(headers["x-amz-server-side-encryption-aws-kms-key-id"], bed.fact("kms_key"));
            assert!(headers["x-amz-checksum-sha256"].is_string());
            assert!(
                headers["if-none-match"].is_string() || headers["if-match"].is_string(),
                "every write is conditional"
            );
        }
    }
}

#[test]
fn every_call_names_the_tool_and_the_application_id_of_whoever_calls() {
    let (bed, project) = (Bed::start(), Project::hello());
    bed.forget();
    let mut deploy = command(&project, Some(&bed), &["deploy"]);
    deploy.env("AWS_SDK_UA_APP_ID", "release-desk");
    ran(deploy).exits(3);

    let requests = bed.requests();
    assert!(
        ["cloudformation", "s3", "sts"].iter().all(|service| requests.iter().any(|call| call["service"] == *service))
    );
    for request in requests {
        let agent = request["agent"].as_str().unwrap();
        assert!(agent.contains(concat!("tenantry/", env!("CARGO_PKG_VERSION"))), "{request}");
        assert!(agent.contains(" app/release-desk"), "{request}");
        // The SDK's own is put together for each call anew: where there are many calls, one stands for all of them.
        let is_s3 = request["service"] == "s3";
        if is_s3 || request["service"] == "cloudformation" || request["parameters"]["Action"] == "AssumeRole" {
            assert!(agent.starts_with("tenantry/"), "{request}");
            assert!(!is_s3 || request["headers"]["x-amz-user-agent"].is_null(), "{request}");
        }
    }
}

#[test]
fn what_was_changed_by_hand_is_reverted_where_that_is_asked_for() {
    let (bed, project) = (Bed::start(), Project::hello());
    let wanted = "    tenants: [sandbox]\n    stack-options: { revert-drift: true }\n";
    project.replace("tenantry.yaml", "    tenants: [sandbox]\n", wanted);
    tenantry(&bed, &project, &["deploy", "--stage", "dev"]).exits(0);
    project.replace("src/index.js", "it greets", "it says hello");
    tenantry(&bed, &project, &["deploy", "--stage", "dev"]).exits(0);
    let modes: Vec<Value> =
        bed.actions("CreateChangeSet").into_iter().map(|request| request["DeploymentMode"].clone()).collect();
    assert_eq!(modes, [Value::Null, "REVERT_DRIFT".into()], "nothing has drifted of what is created");
}

#[test]
fn a_second_deploy_of_the_same_input_sends_nothing_and_changes_nothing() {
    let (bed, project) = (Bed::start(), Project::hello());
    deployed(&bed, &project);
    bed.forget();
    let second = tenantry(&bed, &project, &["deploy"]).exits(0);
    snapshot("deploy-again", &second.all());
    assert_eq!(bed.written(), Vec::<String>::new());
    assert_eq!(bed.actions("ExecuteChangeSet"), Vec::<Value>::new());
    let left = "stack = 'SampleApplication-sandbox-stack-eu-west-1'\n\
        print(json.dumps([one['ExecutionStatus'] for one in client('cloudformation').list_change_sets(StackName=stack)['Summaries']]))";
    let left: Vec<String> = serde_json::from_str(&bed.boto3("222222222222", left)).unwrap();
    assert!(left.iter().all(|status| status == "EXECUTE_COMPLETE"), "no change set is left behind: {left:?}");
}

#[test]
fn one_byte_of_code_changes_the_artifact_and_the_functions_and_nothing_else() {
    let (bed, project) = (Bed::start(), Project::hello());
    let before = deployed(&bed, &project);
    bed.forget();
    project.replace("src/index.js", "// The application's one", "// The application's 1ne");

    let plan = tenantry(&bed, &project, &["plan", "--stage", "prod", "--output", "json"]).exits(0).json();
    let classes = plan["classes"].as_array().unwrap();
    assert_eq!(classes.len(), 1, "{classes:?}");
    assert_eq!(classes[0]["targets"].as_array().unwrap().len(), 2);
    let rows: Vec<_> = classes[0]["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["action"].as_str().unwrap(), row["logical_id"].as_str().unwrap()))
        .collect();
    assert_eq!(rows, [("Modify", "SampleApplication")]);

    let after = deployed(&bed, &project);
    assert_ne!(before["release"], after["release"]);
    let artifacts: Vec<String> =
        bed.written().into_iter().filter(|key| key.starts_with("CrossAccountPipeline/")).collect();
    assert_eq!(artifacts.len(), 1, "the template is not sent again: {artifacts:?}");
    assert!(artifacts[0].starts_with("CrossAccountPipeline/shared/SampleApplication/artifacts/"));
    for stage in after["stages"].as_array().unwrap() {
        let outcomes: Vec<_> =
            stage["targets"].as_array().unwrap().iter().map(|target| target["outcome"].as_str().unwrap()).collect();
        assert!(outcomes.iter().all(|outcome| *outcome == "deployed"), "{outcomes:?}");
    }
}

/// CloudFormation answers in pages; nothing of any page is lost, and no event is told twice.
#[test]
fn change_sets_and_events_are_read_to_the_last_page() {
    let project = Project::hello();
    let whole = tenantry(&Bed::start(), &project, &["plan", "--stage", "dev", "--output", "json"]).exits(0).json();
    let bed = Bed::with(&["--page-size", "1"]);
    let paged = tenantry(&bed, &project, &["plan", "--stage", "dev", "--output", "json"]).exits(0).json();
    assert!(
        bed.actions("DescribeChangeSet").iter().any(|request| request["NextToken"].is_string()),
        "there were pages"
    );
    assert_eq!(paged["digest"], whole["digest"]);
    assert_eq!(paged["classes"][0]["rows"].as_array().unwrap().len(), 2);

    let run = tenantry(&bed, &project, &["deploy", "--stage", "dev"]).exits(0);
    assert!(
        bed.actions("DescribeStackEvents").iter().any(|request| request["NextToken"].is_string()),
        "there were pages"
    );
    let told: Vec<&str> = run.stderr.lines().filter(|line| line.starts_with("[sandbox/eu-west-1] S")).collect();
    assert_eq!(told.len(), 4, "each event once: {told:?}");
}

#[test]
fn selectors_choose_tenants_by_name_and_label() {
    let (bed, project) = (Bed::start(), Project::hello());
    let tenants = |arguments: &[&str]| -> Vec<String> {
        let plan = tenantry(&bed, &project, &[&["plan", "--stage", "prod", "--output", "json"], arguments].concat())
            .exits(0)
            .json();
        let targets = plan["content"]["targets"].as_array().unwrap().clone();
        targets.iter().map(|target| target["target"]["tenant"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(tenants(&[]), ["gnome", "unicorn"]);
    assert_eq!(tenants(&["--tenant", "gnome"]), ["gnome"]);
    assert_eq!(tenants(&["--label", "ring=canary"]), ["unicorn"]);
    let wrong = tenantry(&bed, &project, &["plan", "--stage", "prod", "--tenant", "gnom"]).exits(2);
    snapshot("unknown-tenant", &wrong.stderr);
    let nobody = tenantry(&bed, &project, &["deploy", "--label", "ring=outer"]).exits(2);
    snapshot("nobody-selected", &nobody.stderr);
}

#[test]
fn events_are_json_lines_where_machines_listen() {
    let (bed, project) = (Bed::start(), Project::hello());
    let run =
        tenantry(&bed, &project, &["deploy", "--stage", "dev", "--log-format", "json", "--output", "json"]).exits(0);
    let events: Vec<Value> = run.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let names: Vec<&str> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    for name in [
        "packaged",
        "stored",
        "released",
        "phase-started",
        "planned",
        "moved",
        "stack",
        "check-passed",
        "finished",
        "phase-finished",
    ] {
        assert!(names.contains(&name), "{name} is missing in {names:?}");
    }
    assert!(events.iter().all(|event| event["time"].is_string()));
    assert_eq!(run.json()["stages"][0]["counts"]["deployed"], 1);
}

#[test]
fn package_makes_a_release_and_plan_takes_it_up() {
    let (bed, project) = (Bed::start(), Project::hello());
    let release = tenantry(&bed, &project, &["package", "--output", "json"]).exits(0).json();
    assert_eq!(release["provenance"]["commit"], "0123456789abcdef0123456789abcdef01234567");
    project.replace("src/index.js", "Hello!", "Other!");
    let id = release["id"].as_str().unwrap();
    let plan =
        tenantry(&bed, &project, &["plan", "--stage", "dev", "--release", id, "--output", "json"]).exits(0).json();
    assert_eq!(plan["content"]["release"], release["id"]);
    assert_eq!(plan["content"]["artifacts"]["code"], release["artifacts"]["code"]["sha256"]);

    // The folder has moved on: its template has a parameter that the release's has not, and a secret.
    project.replace("application.yaml", "Resources:\n", "  Size:\n    Type: Number\n\nResources:\n");
    project.replace("tenantry.yaml", "parameters:\n", "parameters:\n  Size: 3\n");
    let older = tenantry(&bed, &project, &["plan", "--stage", "dev", "--release", id, "--output", "json"]).exits(0);
    assert!(older.stderr.contains("has no parameter Size: it is left out"), "{}", older.stderr);
    assert_eq!(older.json()["digest"], plan["digest"], "the same release is the same plan");

    let edit = format!(
        "client('s3').put_object(Bucket='{}', Key='{}', Body=b'Resources: {{}}', ServerSideEncryption='aws:kms', SSEKMSKeyId='{}')",
        bed.fact("bucket"),
        release["template"]["key"].as_str().unwrap(),
        bed.fact("kms_key"),
    );
    bed.boto3("111111111111", &edit);
    let edited = tenantry(&bed, &project, &["plan", "--stage", "dev", "--release", id]).exits(2);
    snapshot("edited-template", &edited.stderr);

    let unknown = tenantry(&bed, &project, &["plan", "--stage", "dev", "--release", "000000000000"]).exits(2);
    snapshot("unknown-release", &unknown.stderr);
}
