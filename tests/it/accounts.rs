//! Accounts from nothing and back, with the policies of `infra/` enforced by the emulator (tests/bed/enforce.py).

use std::fs;
use std::ops::Range;
use std::process::{Command, Stdio};

use crate::bed::{Bed, Project, Ran, command, python, ran, snapshot};

const TOOLING: &str = "111111111111";
pub const RELEASER: &str = "arn:aws:iam::111111111111:role/tenantry/release/TenantryReleaser";
pub const APPROVER: &str = "arn:aws:iam::111111111111:role/tenantry/approve/TenantryApprover";

/// The example as a starter has it: with neither bucket nor key, and with the tenants that are named.
pub fn project(tenants: &str, bootstrap: &str) -> Project {
    let project = Project::hello();
    project.replace("tenantry.yaml", "bucket: tenantry-artifacts-111111111111", "bucket: my-artifact-bucket");
    project.replace(
        "tenantry.yaml",
        "key/00000000-1111-2222-3333-444444444444",
        "key/00000000-0000-0000-0000-000000000000",
    );
    let people = "  admin-role: OrganizationAccountAccessRole\n  releasers: [\"arn:aws:iam::111111111111:user/alice\"]\n  \
                  approvers: [\"arn:aws:iam::111111111111:user/bob\"]\n";
    let text = fs::read_to_string(project.path().join("tenantry.yaml")).unwrap();
    project.write("tenantry.yaml", &format!("{text}\nbootstrap:\n{bootstrap}{people}"));
    project.write("tenants.yaml", tenants);
    project
}

pub const ORGANIZATION: &str =
    "  organization: o-exampleorg1\n  organization-path: o-exampleorg1/r-abcd/ou-abcd-tenants/*\n";
const TWO: &str = "- name: sandbox\n  account: \"222222222222\"\n\n- name: unicorn\n  account: \"333333333333\"\n";

/// Tenants as a list has them, with accounts from a number on.
fn listed(numbers: Range<u64>, first: u64) -> String {
    let tenant = |number| format!("- name: t{number:03}\n  account: \"{}\"\n", first + number);
    numbers.map(tenant).collect::<Vec<_>>().concat()
}

/// The binary as the administrator of the tooling account.
pub fn admin(bed: &Bed, project: &Project, arguments: &[&str]) -> Ran {
    ran(command(project, Some(bed), arguments))
}

/// The binary in a role that somebody has taken.
pub fn taking(user: &str, role: &str, bed: &Bed, project: &Project, arguments: &[&str]) -> Ran {
    ran(taking_command(user, role, bed, project, arguments))
}

/// The binary in a role that somebody has taken, to be run.
pub fn taking_command(user: &str, role: &str, bed: &Bed, project: &Project, arguments: &[&str]) -> Command {
    let keys = &bed.facts[user];
    let output = Command::new(python())
        .arg("-c")
        .arg(format!(
            "import boto3, json\nsts = boto3.client('sts', endpoint_url='{}', region_name='eu-west-1', aws_access_key_id={}, \
             aws_secret_access_key={})\nc = sts.assume_role(RoleArn='{role}', RoleSessionName='{user}')['Credentials']\n\
             print(c['AccessKeyId'], c['SecretAccessKey'], c['SessionToken'])",
            bed.fact("endpoint"),
            keys["access_key_id"],
            keys["secret_access_key"]
        ))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let [id, secret, token] = text.split_whitespace().collect::<Vec<_>>()[..] else { panic!("{text}") };
    let mut command = command(project, Some(bed), arguments);
    command.env("AWS_ACCESS_KEY_ID", id).env("AWS_SECRET_ACCESS_KEY", secret).env("AWS_SESSION_TOKEN", token);
    command
}

pub fn output(project: &Project, name: &str) -> String {
    let text = fs::read_to_string(project.path().join("outputs")).unwrap();
    let start = format!("{name}=");
    text.lines().rev().find_map(|line| line.strip_prefix(&start)).unwrap().to_owned()
}

/// Plans, approves and applies a release to production, each by who may do it.
fn release(bed: &Bed, project: &Project, selection: &[&str]) -> Ran {
    let deploy = ["deploy", "--outputs-file", "outputs"];
    taking("alice", RELEASER, bed, project, &[&deploy[..], selection].concat()).exits(3);
    let digest = output(project, "plan-digest");
    taking("bob", APPROVER, bed, project, &["approve", &digest]).exits(0);
    taking("alice", RELEASER, bed, project, &["apply", &digest]).exits(0)
}

#[test]
fn from_nothing_to_a_third_tenant_and_back_to_nothing() {
    let bed = Bed::with(&["--empty"]);
    let project = project(TWO, ORGANIZATION);

    // Nobody has to write policies: two accounts are set up, and what is not confirmed is not done.
    let waits = admin(&bed, &project, &["bootstrap", "tooling"]).exits(3);
    snapshot("bootstrap-tooling", &waits.all());
    assert_eq!(bed.actions("ExecuteChangeSet").len(), 0);
    let no_store = admin(&bed, &project, &["bootstrap", "tenant", "--yes"]).exits(2);
    assert!(no_store.stderr.contains("tenantry bootstrap tooling"), "{}", no_store.stderr);
    admin(&bed, &project, &["bootstrap", "tooling", "--yes"]).exits(0);
    admin(&bed, &project, &["bootstrap", "tenant", "--yes"]).exits(0);
    release(&bed, &project, &[]);

    // The same again changes nothing.
    let again = admin(&bed, &project, &["bootstrap", "tooling"]).exits(0);
    assert!(again.stdout.contains("1 unchanged"), "{}", again.stdout);
    let again = admin(&bed, &project, &["bootstrap", "tenant"]).exits(0);
    assert!(again.stdout.contains("2 unchanged"), "{}", again.stdout);

    // A third tenant touches its own account only, and is released to alone.
    bed.forget();
    let added = ["tenant", "add", "gnome", "--account", "444444444444", "--label", "ring=late", "--yes"];
    let added = admin(&bed, &project, &added).exits(0);
    assert!(added.stdout.contains("added gnome to tenants.yaml"), "{}", added.stdout);
    assert_eq!(bed.actions("ExecuteChangeSet").len(), 1);
    let tenants = fs::read_to_string(project.path().join("tenants.yaml")).unwrap();
    assert_eq!(tenants, format!("{TWO}\n- name: gnome\n  account: \"444444444444\"\n  labels: {{ ring: late }}\n"));
    let released = release(&bed, &project, &["--tenant", "gnome"]);
    assert!(released.stdout.contains("prod: 1 deployed"), "{}", released.stdout);

    // It goes, in the order in which each stack can still be deleted.
    admin(&bed, &project, &["tenant", "remove", "gnome"]).exits(3);
    bed.forget();
    admin(&bed, &project, &["tenant", "remove", "gnome", "--confirm", "gnome"]).exits(0);
    let deleted: Vec<String> = bed
        .actions("DeleteStack")
        .iter()
        .map(|request| request["StackName"].as_str().unwrap().split('/').nth(1).unwrap_or_default().to_owned())
        .collect();
    assert_eq!(deleted, ["SampleApplication-gnome-stack-eu-west-1", "tenantry-tenant"]);
    assert_eq!(fs::read_to_string(project.path().join("tenants.yaml")).unwrap(), TWO);

    // And all else. Artifacts and records stay unless they are named.
    let needed = admin(&bed, &project, &["bootstrap", "remove", "tooling", "--confirm", "tooling"]).exits(4);
    assert!(needed.stderr.contains("2 tenants still need"), "{}", needed.stderr);
    for tenant in ["unicorn", "sandbox"] {
        admin(&bed, &project, &["tenant", "remove", tenant, "--confirm", tenant]).exits(0);
    }
    let buckets = || bed.boto3(TOOLING, "print([b['Name'] for b in client('s3').list_buckets()['Buckets']])");
    let states = "kms = client('kms')\nprint([kms.describe_key(KeyId=k['KeyId'])['KeyMetadata']['KeyState'] for k in kms.list_keys()['Keys']])";
    admin(&bed, &project, &["bootstrap", "remove", "tooling", "--confirm", "tooling"]).exits(0);
    assert_eq!(buckets().trim(), "['tenantry-111111111111-eu-west-1']");
    assert_eq!(bed.boto3(TOOLING, states).trim(), "['Enabled']");
}

#[test]
fn what_holds_data_goes_only_where_it_is_named() {
    let bed = Bed::with(&["--empty"]);
    let project = project(TWO, ORGANIZATION);
    project.replace(
        "application.yaml",
        "Resources:\n",
        "Resources:\n  Orders:\n    Type: AWS::DynamoDB::Table\n    Properties:\n      TableName: !Sub '${ApplicationName}-orders'\n      \
         BillingMode: PAY_PER_REQUEST\n      AttributeDefinitions: [{ AttributeName: id, AttributeType: S }]\n      \
         KeySchema: [{ AttributeName: id, KeyType: HASH }]\n",
    );
    admin(&bed, &project, &["bootstrap", "tooling", "--yes"]).exits(0);
    admin(&bed, &project, &["bootstrap", "tenant", "sandbox", "--yes"]).exits(0);
    taking("alice", RELEASER, &bed, &project, &["deploy", "--stage", "dev"]).exits(0);
    bed.forget();
    let refused = admin(&bed, &project, &["tenant", "remove", "sandbox", "--confirm", "sandbox"]).exits(4);
    assert!(refused.stderr.contains("data would be deleted: Orders (AWS::DynamoDB::Table)"), "{}", refused.stderr);
    let refused = ["tenant", "remove", "sandbox", "--confirm", "sandbox", "--delete-data", "Order"];
    admin(&bed, &project, &refused).exits(2);
    assert_eq!(bed.actions("DeleteStack").len(), 0);
    let named = ["tenant", "remove", "sandbox", "--confirm", "sandbox", "--delete-data", "Orders"];
    admin(&bed, &project, &named).exits(0);
    // The stage that named it does so no longer, and the configuration can still be read.
    assert!(fs::read_to_string(project.path().join("tenantry.yaml")).unwrap().contains("tenants: []"));
    admin(&bed, &project, &["tenant", "remove", "unicorn", "--confirm", "unicorn"]).exits(0);
    let removed =
        ["bootstrap", "remove", "tooling", "--confirm", "tooling", "--delete-data", "Bucket", "--delete-data", "Key"];
    let removed = admin(&bed, &project, &removed).exits(0);
    assert!(removed.stderr.contains("deleted bucket tenantry-111111111111-eu-west-1 with"), "{}", removed.stderr);
    let state = "kms = client('kms')\nprint([kms.describe_key(KeyId=k['KeyId'])['KeyMetadata']['KeyState'] for k in kms.list_keys()['Keys']])";
    assert_eq!(bed.boto3(TOOLING, state).trim(), "['PendingDeletion']");
}

/// Where accounts are listed, of two who add a tenant at the same time neither is lost.
#[test]
fn two_tenants_are_added_at_the_same_time() {
    let bed = Bed::with(&["--empty", "--delay", "1"]);
    let (one, other) = (project(TWO, ""), project(TWO, ""));
    admin(&bed, &one, &["bootstrap", "tooling", "--yes"]).exits(0);
    for file in ["tenantry.yaml", "tenants.yaml"] {
        fs::copy(one.path().join(file), other.path().join(file)).unwrap();
    }
    let add = |project: &Project, name: &str, account: &str| {
        let mut command = command(project, Some(&bed), &["tenant", "add", name, "--account", account, "--yes"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let children = [add(&one, "gnome", "444444444444"), add(&other, "dragon", "555555555555")];
    for child in children {
        Ran::of(&child.wait_with_output().unwrap()).exits(0);
    }
    let listed = "s = client('cloudformation').describe_stacks(StackName='tenantry-tooling')['Stacks'][0]\n\
                  print([p['ParameterValue'] for p in s['Parameters'] if p['ParameterKey'] == 'TenantAccounts'][0])";
    let listed = bed.boto3(TOOLING, listed);
    for account in ["222222222222", "333333333333", "444444444444", "555555555555"] {
        assert!(listed.contains(account), "{listed}");
    }
    // What is listed can be released to; and a tenant that goes is listed no longer.
    taking("alice", RELEASER, &bed, &one, &["deploy", "--stage", "dev"]).exits(1);
    admin(&bed, &one, &["bootstrap", "tenant", "sandbox", "--yes"]).exits(0);
    taking("alice", RELEASER, &bed, &one, &["deploy", "--stage", "dev"]).exits(0);
    admin(&bed, &other, &["tenant", "remove", "dragon", "--confirm", "dragon"]).exits(0);
}

#[test]
fn too_many_accounts_are_told_before_a_policy_is_too_large() {
    let bed = Bed::with(&["--empty"]);
    let tenants = listed(0..400, 700_000_000_000);
    let project = project(&format!("{TWO}{tenants}"), "");
    let refused = admin(&bed, &project, &["bootstrap", "tooling", "--yes"]).exits(2);
    assert!(refused.stderr.contains("accounts fit"), "{}", refused.stderr);
    assert!(refused.stderr.contains("bootstrap.organization"), "{}", refused.stderr);
    assert_eq!(bed.actions("CreateChangeSet").len(), 0);
}

/// Three roles, and none of them can do another's work.
#[test]
fn who_plans_cannot_release_and_who_releases_cannot_approve() {
    let bed = Bed::with(&["--empty"]);
    let project = project(TWO, ORGANIZATION);
    admin(&bed, &project, &["bootstrap", "tooling", "--yes"]).exits(0);
    admin(&bed, &project, &["bootstrap", "tenant", "--yes"]).exits(0);
    let github = ["bootstrap", "github", "--repository", "owner/name", "--yes"];
    admin(&bed, &project, &github).exits(0);
    // A planner: any role below the path with the policy that is there for it.
    bed.boto3(
        TOOLING,
        "iam = client('iam')\ntrust = {'Version': '2012-10-17', 'Statement': [{'Effect': 'Allow', 'Action': 'sts:AssumeRole', \
         'Principal': {'AWS': 'arn:aws:iam::111111111111:root'}}]}\n\
         iam.create_role(RoleName='Planner', Path='/tenantry/plan/', AssumeRolePolicyDocument=json.dumps(trust))\n\
         iam.attach_role_policy(RoleName='Planner', PolicyArn='arn:aws:iam::111111111111:policy/tenantry/TenantryPlan')",
    );
    let planner = "arn:aws:iam::111111111111:role/tenantry/plan/Planner";
    let plan = ["plan", "--stage", "prod", "--outputs-file", "outputs"];
    taking("alice", planner, &bed, &project, &plan).exits(0);
    let digest = output(&project, "plan-digest");
    assert!(bed.actions("AssumeRole").iter().any(|request| request["RoleArn"].as_str().unwrap().ends_with("PlanRole")));

    let denied = |user: &str, role: &str, arguments: &[&str]| {
        bed.forget();
        let refused = taking(user, role, &bed, &project, arguments);
        assert!(refused.code == 2 || refused.code == 1, "{}", refused.all());
        assert!(
            refused.stderr.contains("AccessDenied") || refused.stdout.contains("AccessDenied"),
            "{}",
            refused.all()
        );
        assert_eq!(bed.actions("ExecuteChangeSet").len(), 0);
        refused
    };
    denied("alice", planner, &["approve", &digest]);
    let releaser = denied("alice", RELEASER, &["approve", &digest]);
    assert!(releaser.stderr.contains("/tenantry/approve/"), "{}", releaser.stderr);
    taking("bob", APPROVER, &bed, &project, &["approve", &digest]).exits(0);
    denied("alice", planner, &["apply", &digest]);
    denied("bob", APPROVER, &["apply", &digest]);
    denied("bob", APPROVER, &["plan", "--stage", "prod"]);
    taking("alice", RELEASER, &bed, &project, &["apply", &digest]).exits(0);
    // What a workflow does in its job that plans.
    taking("alice", RELEASER, &bed, &project, &["deploy", "--stage", "dev"]).exits(0);
    let release = output(&project, "release");
    let promotion = ["plan", "--stage", "prod", "--release", &release, "--promote"];
    taking("alice", planner, &bed, &project, &promotion).exits(0);
    taking("alice", planner, &bed, &project, &["report", &digest, "--output", "markdown"]).exits(0);
}

/// What must be denied, over the wire: each call is made with real sessions, and with the one thing right beside the one
/// that is wrong.
#[test]
fn what_must_be_denied_is_denied_over_the_wire() {
    let bed = Bed::with(&["--empty"]);
    let project = project(TWO, ORGANIZATION);
    admin(&bed, &project, &["bootstrap", "tooling", "--yes"]).exits(0);
    admin(&bed, &project, &["bootstrap", "tenant", "--yes"]).exits(0);
    release(&bed, &project, &[]);
    let told = bed.boto3(TOOLING, &format!("facts = json.loads('''{}''')\n{}", bed.facts, include_str!("denied.py")));
    let wrong: Vec<&str> = told.lines().filter(|line| !line.ends_with(": as it should be")).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(told.lines().count() >= 30, "{told}");
}

/// Nine accounts, each with something else wrong: what is missing is named for each.
#[test]
fn doctor_names_what_is_missing_in_each_of_nine_accounts() {
    let bed = Bed::with(&["--empty", "--tenants", "9"]);
    let further = listed(1..10, 500_000_000_000);
    let project = project(&format!("{TWO}{further}"), "");
    admin(&bed, &project, &["bootstrap", "tooling", "--yes"]).exits(0);
    admin(&bed, &project, &["bootstrap", "tenant", "--yes"]).exits(0);
    let well = taking("alice", RELEASER, &bed, &project, &["doctor"]).exits(0);
    assert!(well.stdout.contains("11 targets can be released to"), "{}", well.stdout);

    bed.boto3(TOOLING, include_str!("planted.py"));
    let told = taking("alice", RELEASER, &bed, &project, &["doctor", "--log-format", "plain"]).exits(1);
    snapshot("doctor", &told.stdout);
    let data = taking("alice", RELEASER, &bed, &project, &["doctor", "--output", "json"]).exits(1).json();
    let missing = |tenant: &str| {
        let target = data["targets"].as_array().unwrap().iter().find(|target| target["tenant"] == tenant).unwrap();
        target["finding"]["missing"]["statement"]["Action"].as_str().unwrap_or("none").to_owned()
    };
    for (tenant, action) in [
        ("t001", "sts:AssumeRole"),
        ("t002", "sts:AssumeRole"),
        ("t003", "sts:TagSession"),
        ("t004", "sts:SetSourceIdentity"),
        ("t005", "s3:GetObject"),
        ("t006", "kms:Decrypt"),
        ("t007", "iam:PassRole"),
        ("t008", "none"),
        ("t009", "cloudformation:DescribeStackEvents"),
    ] {
        assert_eq!(missing(tenant), action, "{tenant}");
    }
    // Nothing is left of what was made to look.
    for account in ["222222222222", "333333333333", "500000000008", "500000000009"] {
        let stacks =
            bed.boto3(account, "print([s['StackName'] for s in client('cloudformation').describe_stacks()['Stacks']])");
        assert_eq!(stacks.trim(), "['tenantry-tenant']");
    }
}

/// What was set up for something else is not made over, and roles stay as long as a stack needs them.
#[test]
fn what_was_set_up_for_something_else_is_left_alone() {
    let bed = Bed::with(&["--empty"]);
    let project = project(TWO, "");
    admin(&bed, &project, &["bootstrap", "tooling", "--yes"]).exits(0);
    admin(&bed, &project, &["bootstrap", "tenant", "--yes"]).exits(0);
    taking("alice", RELEASER, &bed, &project, &["deploy", "--stage", "dev"]).exits(0);
    let config = fs::read_to_string(project.path().join("tenantry.yaml")).unwrap();
    let changed = |from: &str, to: &str, arguments: &[&str]| {
        bed.forget();
        project.replace("tenantry.yaml", from, to);
        let ran = admin(&bed, &project, arguments);
        project.write("tenantry.yaml", &config);
        assert_eq!(bed.actions("ExecuteChangeSet").len() + bed.actions("DeleteStack").len(), 0, "{}", ran.all());
        ran
    };
    let tenant = ["bootstrap", "tenant", "--yes"];
    let other = changed("application: SampleApplication", "application: Other", &tenant).exits(4);
    assert!(other.stderr.contains("was made for Application SampleApplication"), "{}", other.stderr);
    let pattern = changed("stack: \"{application}", "stack: \"x-{application}", &tenant).exits(2);
    assert!(pattern.stderr.contains("bootstrap.name-prefix"), "{}", pattern.stderr);
    let mode =
        changed("bootstrap:\n", &format!("bootstrap:\n{ORGANIZATION}"), &["bootstrap", "tooling", "--yes"]).exits(4);
    assert!(mode.stderr.contains("--change-mode"), "{}", mode.stderr);
    let bucket = changed(
        "bucket: tenantry-111",
        "bucket: other-111",
        &["tenant", "add", "x", "--account", "444444444444", "--yes"],
    );
    assert!(bucket.exits(2).stderr.contains("was set up for bucket tenantry-111111111111-eu-west-1"));
    let path = "deployment: arn:aws:iam::222222222222:role/path/CloudFormationDeploymentRole";
    let path = changed("regions: [eu-west-1]", &format!("regions: [eu-west-1]\nroles: {{ {path} }}"), &tenant).exits(2);
    assert!(path.stderr.contains("has a path"), "{}", path.stderr);

    // A stack that no stage has any more keeps the roles in place.
    let gone = changed(
        "stack: \"{application}-{tenant}",
        "stack: \"{application}-new-{tenant}",
        &["tenant", "remove", "sandbox", "--confirm", "sandbox"],
    );
    let gone = gone.exits(4);
    assert!(
        gone.stderr.contains("stack SampleApplication-sandbox-stack-eu-west-1 in eu-west-1 still needs the roles"),
        "{}",
        gone.stderr
    );

    // The last tenants go, too; the policies then list nobody.
    admin(&bed, &project, &["tenant", "remove", "sandbox", "--confirm", "sandbox"]).exits(0);
    let closed = ["tenant", "remove", "unicorn", "--account-is-gone", "--confirm", "unicorn"];
    admin(&bed, &project, &closed).exits(0);
    assert_eq!(fs::read_to_string(project.path().join("tenants.yaml")).unwrap().trim(), "");
    admin(&bed, &project, &["bootstrap", "remove", "tooling", "--confirm", "tooling"]).exits(0);
}

/// The pipeline's builds run a binary that is put into the bucket by a role that can do nothing else.
#[test]
fn a_pipeline_gets_its_binary_by_a_role_for_that() {
    let bed = Bed::with(&["--empty"]);
    let project = project(TWO, ORGANIZATION);
    admin(&bed, &project, &["bootstrap", "tooling", "--yes"]).exits(0);
    let connection = "arn:aws:codeconnections:eu-west-1:111111111111:connection/x";
    let pipeline =
        ["bootstrap", "pipeline", "--connection", connection, "--repository", "owner/name", "--yes", "--binary"];
    fs::write(project.path().join("script"), "#!/bin/sh\n").unwrap();
    let refused = admin(&bed, &project, &[&pipeline[..], &["script"]].concat()).exits(2);
    assert!(refused.stderr.contains("is not for Linux on x86-64"), "{}", refused.stderr);
    // The least that is a static program for Linux on x86-64, as far as its header says.
    let mut header = b"\x7fELF\x02\x01\x01".to_vec();
    header.resize(64, 0);
    header[18] = 62;
    fs::write(project.path().join("static"), &header).unwrap();
    admin(&bed, &project, &[&pipeline[..], &["static"]].concat()).exits(0);
    let written = bed.written();
    let tools: Vec<&String> = written.iter().filter(|key| key.starts_with("tenantry/tool/")).collect();
    assert_eq!(tools.len(), 2, "{written:?}");
    let asked = bed.actions("CreateChangeSet");
    let asked =
        asked.iter().find(|asked| asked["StackName"] == "tenantry-pipeline-SampleApplication").unwrap().to_string();
    assert!(tools.iter().all(|key| asked.contains(key.as_str())), "{asked}");
}
