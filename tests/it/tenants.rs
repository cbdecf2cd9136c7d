//! Tenants that AWS keeps: accounts of an organization (by moto), or a parameter.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::bed::{Bed, Project, Ran, command, offline, python, ran, root, tenantry};

const FILE: &str = "tenants: tenants.yaml";

/// An organization. It ends with the test.
struct Organization {
    child: Child,
    facts: Value,
}

impl Organization {
    /// Starts one with so many accounts beside those of the emulator's tenants.
    fn with(further: usize) -> Self {
        let mut child = Command::new(python())
            .arg(root().join("tests/bed/organization.py"))
            .arg(further.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { facts: serde_json::from_str(&line).unwrap(), child }
    }

    fn fact(&self, name: &str) -> &str {
        self.facts[name].as_str().unwrap()
    }

    fn run(&self, bed: &Bed, project: &Project, arguments: &[&str]) -> Ran {
        let mut command = command(project, Some(bed), arguments);
        command.env("AWS_ENDPOINT_URL_ORGANIZATIONS", self.fact("endpoint"));
        ran(command)
    }

    /// Asks the organization itself.
    fn boto3(&self, code: &str) {
        let connect = format!(
            "import boto3\nfacts = {}\nc = boto3.client('organizations', endpoint_url=facts['endpoint'], region_name='us-east-1', \
             aws_access_key_id='x', aws_secret_access_key='x')\n{code}",
            self.facts
        );
        let output = Command::new(python()).arg("-c").arg(connect).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// The example, with the accounts of a unit as its tenants.
    fn project(&self, unit: &str) -> Project {
        let project = Project::hello();
        let tenants = format!("tenants:\n  organizations:\n    ou: {}\n{unit}", self.fact("ou"));
        project.replace("tenantry.yaml", FILE, &tenants);
        project
    }
}

impl Drop for Organization {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

#[test]
fn the_accounts_of_an_organizational_unit_are_the_tenants() {
    // Organizations lists twenty accounts a page.
    let (bed, organization) = (Bed::start(), Organization::with(30));
    let project = organization.project("    name-tag: tenant\n    exclude: [gnome]\n");
    let checked = organization.run(&bed, &project, &["check", "--output", "json"]).exits(0).json();
    let prod = checked["stages"]["prod"].as_array().unwrap();
    assert_eq!(prod.len(), 31, "unicorn and thirty more; not gnome, and not the one that is closed: {checked}");
    let listed = organization.run(&bed, &project, &["tenant", "list", "--output", "json"]).exits(0).json();
    let closed: Vec<&Value> = listed.as_array().unwrap().iter().filter(|one| one["closed"] == "SUSPENDED").collect();
    assert!(closed.len() == 1 && closed[0]["name"] == "gone", "{listed}");

    // Units below and tags are labels.
    for label in ["ou=early", "ring=canary"] {
        let planned = ["plan", "--stage", "prod", "--label", label, "--output", "json"];
        let plan = organization.run(&bed, &project, &planned).exits(0).json();
        assert_eq!(plan["content"]["targets"].as_array().map(Vec::len), Some(1), "{plan}");
    }
    let deployed = ["deploy", "--tenant", "sandbox", "--output", "json"];
    organization.run(&bed, &project, &deployed).exits(0);

    // A tenant comes by being moved there, and is not written here.
    let added = ["tenant", "add", "newcomer", "--account", "777777777777", "--yes"];
    let refused = organization.run(&bed, &project, &added).exits(2);
    assert!(refused.stderr.contains("tenantry bootstrap tenant newcomer"), "{}", refused.stderr);

    // Where nothing can be reached, a list in a file serves.
    let refused = offline(&project, &["check"]).exits(2);
    assert!(refused.stderr.contains("credentials"), "{}", refused.stderr);
    offline(&project, &["check", "--tenants", "tenants.yaml"]).exits(0);
    offline(&project, &["doctor", "--policy"]).exits(0);
}

/// Who comes while a plan waits is not in it, and stops neither it nor what goes on from it.
#[test]
fn a_plan_is_for_the_tenants_that_there_were() {
    let (bed, organization) = (Bed::start(), Organization::with(0));
    let project = organization.project("    name-tag: tenant\n    exclude: [gnome]\n");
    let planned = ["plan", "--stage", "prod", "--output", "json"];
    let plan = organization.run(&bed, &project, &planned).exits(0).json();
    let digest = plan["digest"].as_str().unwrap();
    organization.run(&bed, &project, &["approve", digest]).exits(0);
    let listed = organization.run(&bed, &project, &["tenant", "list"]).exits(0).stdout;

    organization
        .boto3("c.create_account(Email='n@example.com', AccountName='new', Tags=[{'Key': 'tenant', 'Value': 'new'}])");
    organization.boto3("new = [a['Id'] for a in c.list_accounts()['Accounts'] if a['Name'] == 'new'][0]\nc.move_account(AccountId=new, SourceParentId=facts['root'], DestinationParentId=facts['ou'])");
    organization.boto3("c.tag_resource(ResourceId='333333333333', Tags=[{'Key': 'ring', 'Value': 'another'}])");
    let applied = organization.run(&bed, &project, &["apply", digest, "--outputs-file", "outputs"]).exits(0);
    assert!(applied.stderr.contains("new/eu-west-1 has come since the plan was made"), "{}", applied.stderr);
    assert!(applied.stdout.contains("prod: 1 deployed"), "{}", applied.stdout);
    let outputs = std::fs::read_to_string(project.path().join("outputs")).unwrap();
    let rollout = outputs.lines().find_map(|line| line.strip_prefix("rollout=")).unwrap();
    let resumed = organization.run(&bed, &project, &["resume", rollout]).exits(0);
    assert!(resumed.stdout.contains("prod: 1 deployed"), "{}", resumed.stdout);

    // One who is gone is noticed; the list from before says who that was.
    let plan = organization.run(&bed, &project, &[&planned[..], &["--tenant", "unicorn"]].concat()).exits(0).json();
    let digest = plan["digest"].as_str().unwrap();
    organization.boto3("c.close_account(AccountId='333333333333')");
    let gone = organization.run(&bed, &project, &["apply", digest]);
    assert_ne!(gone.code, 0, "{}", gone.stdout);
    project.write("before.yaml", &listed);
    organization.run(&bed, &project, &["apply", digest, "--tenants", "before.yaml"]).exits(0);
}

/// A tenant whose account is closed is released to no more, and still known.
#[test]
fn a_closed_account_is_told_and_let_go() {
    let bed = Bed::with(&["--empty"]);
    let organization = Organization::with(0);
    let project = organization.project("    name-tag: tenant\n    exclude: [gnome]\n");
    let bootstrap = "bootstrap:\n  organization: o-exampleorg1\n  admin-role: OrganizationAccountAccessRole\n  releasers: [\"arn:aws:iam::111111111111:user/alice\"]\n";
    let text = std::fs::read_to_string(project.path().join("tenantry.yaml")).unwrap();
    let text = text
        .replace("bucket: tenantry-artifacts-111111111111", "bucket: my-artifact-bucket")
        .replace("key/00000000-1111-2222-3333-444444444444", "key/00000000-0000-0000-0000-000000000000");
    project.write("tenantry.yaml", &format!("{text}\n{bootstrap}"));
    organization.run(&bed, &project, &["bootstrap", "tooling", "--yes"]).exits(0);
    let made = organization.run(&bed, &project, &["bootstrap", "tenant", "--yes"]).exits(0);
    assert!(made.stdout.contains("2 deployed"), "the closed one is left alone: {}", made.stdout);
    organization.boto3("c.close_account(AccountId='222222222222')");
    // A stage that names it has nobody, and says so; nothing else stops.
    let checked = organization.run(&bed, &project, &["check"]);
    assert!(checked.stderr.contains("stage `dev` has no tenant"), "{}", checked.stderr);
    project.replace("tenantry.yaml", "    tenants: [sandbox]\n", "    tenants: [sandbox, unicorn]\n");
    organization.run(&bed, &project, &["check"]).exits(0);
    let gone = ["tenant", "remove", "gone", "--account-is-gone", "--confirm", "gone"];
    let removed = organization.run(&bed, &project, &gone).exits(0);
    assert!(removed.stdout.contains("take gone out of organizations:"), "{}", removed.stdout);
}

#[test]
fn a_unit_that_tells_no_tenants_is_explained() {
    let (bed, organization) = (Bed::start(), Organization::with(0));
    let project = organization.project("    name-tag: customer\n");
    let untagged = organization.run(&bed, &project, &["check"]).exits(2);
    assert!(untagged.stderr.contains("account 222222222222 (sandbox)"), "{}", untagged.stderr);
    assert!(untagged.stderr.contains("has no tag `customer`"), "{}", untagged.stderr);
    // By their names, without tags.
    let project = organization.project("");
    organization.run(&bed, &project, &["check"]).exits(0);
    project.replace("tenantry.yaml", organization.fact("ou"), "ou-aaaa-11111111");
    let unknown = organization.run(&bed, &project, &["check"]).exits(2);
    assert!(unknown.stderr.contains("organizational unit ou-aaaa-11111111"), "{}", unknown.stderr);
    // Whoever may not ask is told how one may.
    let denied = tenantry(&bed, &project, &["check"]).exits(2);
    assert!(denied.stderr.contains("delegate"), "{}", denied.stderr);
    // All accounts of an organization are nobody's tenants.
    project.replace("tenantry.yaml", "ou-aaaa-11111111", organization.fact("root"));
    let root = organization.run(&bed, &project, &["check"]).exits(2);
    assert!(root.stderr.contains("is not the id of an organizational unit"), "{}", root.stderr);
}

#[test]
fn doctor_says_that_an_account_is_closed_where_its_organization_knows() {
    let (bed, organization) = (Bed::start(), Organization::with(0));
    let project = Project::hello();
    project.write(
        "tenants.yaml",
        "- { name: sandbox, account: \"222222222222\" }\n- { name: gone, account: \"666666666666\" }\n",
    );
    let told = organization.run(&bed, &project, &["doctor", "--stage", "prod"]).exits(1);
    assert!(told.stdout.contains("the organization says that account ACCOUNT is SUSPENDED"), "{}", told.stdout);
    assert!(told.stdout.contains("--account-is-gone"), "{}", told.stdout);
    // Elsewhere it stays a question.
    let told = tenantry(&bed, &project, &["doctor", "--stage", "prod"]).exits(1);
    assert!(told.stdout.contains("that account ACCOUNT is not suspended"), "{}", told.stdout);
    // Of the accounts of a unit it is known beforehand.
    let project = organization.project("    name-tag: tenant\n    exclude: [gnome]\n");
    let told = organization.run(&bed, &project, &["doctor", "--output", "json"]).exits(1).json();
    let targets = told["targets"].as_array().unwrap();
    let gone = targets.iter().find(|target| target["tenant"] == "gone").unwrap();
    assert_eq!(gone["finding"]["problem"], "the organization says that account 666666666666 is SUSPENDED");
}

#[test]
fn doctor_says_that_there_is_no_room_for_a_stack() {
    let bed = Bed::with(&["--stack-limit", "1"]);
    let project = Project::hello();
    tenantry(&bed, &project, &["deploy", "--stage", "dev"]).exits(0);
    let cfn = "client('cloudformation').create_stack(StackName='other', TemplateBody='Resources: {W: {Type: AWS::CloudFormation::WaitConditionHandle}}')";
    bed.boto3("333333333333", cfn);
    let told = tenantry(&bed, &project, &["doctor", "--output", "json"]).exits(1).json();
    let of = |tenant: &str| told["targets"].as_array().unwrap().iter().find(|one| one["tenant"] == tenant).unwrap();
    assert_eq!(of("unicorn")["finding"]["problem"], "there is no room: 1 of 1 stacks");
    assert_eq!(of("unicorn")["finding"]["check"], "quotas");
    // A stack that is there needs no further one, and an empty account has room.
    assert!(of("sandbox")["finding"].is_null() && of("gnome")["finding"].is_null(), "{told}");
}

#[test]
fn a_parameter_holds_the_list_of_tenants() {
    let (bed, project) = (Bed::start(), Project::hello());
    project.replace("tenantry.yaml", FILE, "tenants: { parameter: /tenantry/tenants }");
    let missing = tenantry(&bed, &project, &["check"]);
    assert!(missing.stderr.contains("value of parameter /tenantry/tenants"), "{}", missing.stderr);
    let put = |text: &str| {
        let put = "client('ssm').put_parameter(Name='/tenantry/tenants', Type='String', Overwrite=True, Value=";
        bed.boto3("111111111111", &format!("{put}{})", Value::from(text)))
    };
    put("- name: sandbox\n  account: \"222222222222\"\n- name: unicorn\n  account: \"333333333333\"\n");
    tenantry(&bed, &project, &["deploy", "--stage", "dev"]).exits(0);
    // What is wrong with it is told at its place.
    put("- name: sandbox\n  acount: \"222222222222\"\n");
    let wrong = tenantry(&bed, &project, &["check"]).exits(2);
    assert!(wrong.stderr.contains("unknown key `acount` (ssm:/tenantry/tenants:2:3)"), "{}", wrong.stderr);
    // Its lines may have secrets.
    put("- name: sandbox\n  roles: { external-id: planted-5ecret, acess: x }\n");
    let wrong = tenantry(&bed, &project, &["check"]).exits(2);
    assert!(wrong.stderr.contains("unknown key `acess`"), "{}", wrong.stderr);
}
