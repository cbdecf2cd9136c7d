//! Commands that make no call, and what they say about bad input.

use std::fmt::Write as _;
use std::fs;

use crate::bed::{Project, offline, root, snapshot};

#[test]
fn check_finds_nothing_in_the_example() {
    let project = Project::hello();
    snapshot("check", &offline(&project, &["check"]).exits(0).stdout);
    let json = offline(&project, &["check", "--output", "json"]).exits(0).json();
    assert_eq!(json["stages"]["prod"], serde_json::json!(["unicorn/eu-west-1", "gnome/eu-west-1"]));
}

/// Each mistake, one at a time: what is wrong, where, and what to do.
#[test]
fn every_mistake_is_told_with_its_place() {
    let cases: [(&str, &str, &str, &str); 43] = [
        ("variable", "tenantry.yaml", "\"{artifacts.code.key}\"", "\"{artifacts.code.kee}\""),
        ("variable-far-off", "tenantry.yaml", "\"{application}-{tenant}\"\n  S3Bucket", "\"{customer}\"\n  S3Bucket"),
        ("account-id", "tenants.yaml", "\"222222222222\"", "\"22222222222\""),
        ("region", "tenantry.yaml", "regions: [eu-west-1]", "regions: [eu-west]"),
        ("no-region", "tenantry.yaml", "regions: [eu-west-1]", "regions: []"),
        ("missing-parameter", "tenantry.yaml", "  S3Key: \"{artifacts.code.key}\"\n", ""),
        (
            "allowed-pattern",
            "tenantry.yaml",
            "ApplicationName: \"{application}-{tenant}\"",
            "ApplicationName: \"{application}_{tenant}\"",
        ),
        ("capability", "tenantry.yaml", "CAPABILITY_AUTO_EXPAND", "CAPABILITY_AUTOEXPAND"),
        ("auto-expand", "tenantry.yaml", ", CAPABILITY_AUTO_EXPAND", ""),
        (
            "duplicate-target",
            "tenants.yaml",
            "- name: gnome\n  account: \"444444444444\"",
            "- name: gnome\n  account: \"333333333333\"",
        ),
        ("duplicate-tenant", "tenants.yaml", "- name: gnome", "- name: unicorn"),
        ("unknown-tenant", "tenantry.yaml", "tenants: [sandbox]", "tenants: [sandbax]"),
        ("kms-alias", "tenantry.yaml", "key/00000000-1111-2222-3333-444444444444", "alias/artifacts"),
        ("missing-artifact", "tenantry.yaml", "path: src/", "path: source/"),
        ("glob", "tenantry.yaml", "\"**/*.test.js\"", "\"[\""),
        ("foreign-role", "tenants.yaml", "  roles:\n", "  roles:\n    access: arn:aws:iam::999999999999:role/Access\n"),
        ("percentage", "tenantry.yaml", "max-concurrency: 50", "max-concurrency: 150%"),
        ("missing-key", "tenantry.yaml", "application: SampleApplication\n", ""),
        ("duplicate-key", "tenantry.yaml", "regions: [eu-west-1]\n", "regions: [eu-west-1]\nregions: [eu-west-1]\n"),
        (
            "local-path",
            "application.yaml",
            "CodeUri:\n        Bucket: !Ref S3Bucket\n        Key: !Ref S3Key",
            "CodeUri: source/",
        ),
        ("broken-yaml", "tenantry.yaml", "regions: [eu-west-1]", "regions: [eu-west-1"),
        ("brace", "tenantry.yaml", "\"{artifacts.code.key}\"", "\"{artifacts.code.key\""),
        ("label", "tenantry.yaml", "\"{artifacts.code.key}\"", "\"{labels.ring}\""),
        ("no-value", "tenantry.yaml", "  S3Key: \"{artifacts.code.key}\"", "  S3Key:"),
        ("gate-bypass", "tenantry.yaml", "  dev:\n    tenants: [sandbox]\n", "  dev:\n"),
        ("named-twice", "tenantry.yaml", "tenants: [sandbox]", "tenants: [sandbox, sandbox]"),
        ("region-twice", "tenantry.yaml", "regions: [eu-west-1]", "regions: [eu-west-1, eu-west-1]"),
        ("foreign-region", "tenants.yaml", "  roles:\n", "  region-parameters:\n    eu-west-2: {}\n  roles:\n"),
        ("never-started", "tenantry.yaml", "max-concurrency: 50", "max-concurrency: 0"),
        ("empty-wave", "tenantry.yaml", "max-concurrency: 50", "waves: [0, 10%]"),
        ("no-canary", "tenantry.yaml", "max-concurrency: 50", "canary: { label: ring=nobody }"),
        ("canary-elsewhere", "tenantry.yaml", "max-concurrency: 50", "canary: { tenants: [unicron] }"),
        ("canary-label", "tenantry.yaml", "max-concurrency: 50", "canary: { label: canary }"),
        (
            "tooling-alarm",
            "tenantry.yaml",
            "max-concurrency: 50",
            "alarms: [{ name: a, account: tooling, roll-back: true }]",
        ),
        ("nothing-watched", "tenantry.yaml", "    gate:", "    stack-options: { monitoring-minutes: 5 }\n    gate:"),
        ("watched-too-long", "tenantry.yaml", "    gate:", "    stack-options: { monitoring-minutes: 200 }\n    gate:"),
        ("no-policy", "tenantry.yaml", "    gate:", "    stack-options: { stack-policy: { Effect: Deny } }\n    gate:"),
        ("bake-of-nothing", "tenantry.yaml", "max-concurrency: 50", "bake: 10m"),
        ("breaker", "tenantry.yaml", "max-concurrency: 50", "breaker: 0"),
        ("bucket", "tenantry.yaml", "tenantry-artifacts-111111111111", "My_Bucket"),
        ("nothing-left", "tenantry.yaml", "\"**/*.test.js\"", "\"**\""),
        (
            "no-such-output",
            "tenantry.yaml",
            "    tenants: [sandbox]\n    verify:\n",
            "    tenants: [sandbox]\n    verify:\n      - fetch: FunctionArm\n",
        ),
        (
            "two-checks-in-one",
            "tenantry.yaml",
            "    tenants: [sandbox]\n    verify:\n",
            "    tenants: [sandbox]\n    verify:\n      - fetch: Url\n        expect: {}\n",
        ),
    ];
    let mut all = String::new();
    for (name, file, from, to) in cases {
        let project = Project::hello();
        // Two tenants in one account are the same stack only where its name does not tell them apart.
        if name == "duplicate-target" {
            project.replace(
                "tenantry.yaml",
                "stack: \"{application}-{tenant}-stack-{region}\"",
                "stack: \"{application}\"",
            );
        }
        project.replace(file, from, to);
        let run = offline(&project, &["check"]).exits(2);
        assert_eq!(run.stdout, "");
        let _ = writeln!(all, "=== {name}\n{}", run.stderr);
    }
    snapshot("mistakes", &all);
}

#[test]
fn texts_that_look_like_numbers_stay_texts() {
    let project = Project::hello();
    project.replace(
        "application.yaml",
        "Resources:\n",
        "  Code:\n    Type: String\n    AllowedPattern: '007|true|1e3'\n\nResources:\n",
    );
    for value in ["007", "true", "1e3", "\"007\""] {
        let project = Project::hello();
        project.replace(
            "application.yaml",
            "Resources:\n",
            "  Code:\n    Type: String\n    AllowedPattern: '007|true|1e3'\n\nResources:\n",
        );
        project.replace("tenantry.yaml", "parameters:\n", &format!("parameters:\n  Code: {value}\n"));
        offline(&project, &["check"]).exits(0);
    }
}

/// The configuration that the README shows is one.
#[test]
fn the_readmes_configuration_is_accepted() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let block = readme.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    let project = Project::hello();
    project.write("tenantry.yaml", block);
    offline(&project, &["check"]).exits(0);
}

#[test]
fn a_missing_configuration_is_told_with_what_to_do() {
    snapshot("no-configuration", &offline(&Project::empty(), &["check"]).exits(2).stderr);
}

#[test]
fn init_writes_a_starter_that_check_accepts_and_never_overwrites() {
    for (name, template) in [
        ("init-sam", fs::read_to_string(root().join("examples/hello/application.yaml")).unwrap()),
        ("init-plain", "Resources:\n  Topic:\n    Type: AWS::SNS::Topic\n".to_owned()),
    ] {
        let project = Project::empty();
        project.write("template.yaml", &template);
        project.write("src/index.js", "");
        let run = offline(&project, &["init"]).exits(0);
        assert!(run.stdout.contains("tenantry.yaml"), "{}", run.stdout);
        let text = fs::read_to_string(project.path().join("tenantry.yaml")).unwrap();
        // The folder's name, which the application gets, is a random one here.
        let application = text.lines().find(|line| line.starts_with("application: ")).unwrap().to_owned();
        snapshot(name, &text.replace(&application, "application: [folder]"));
        offline(&project, &["check"]).exits(0);
        snapshot("init-again", &offline(&project, &["init"]).exits(2).stderr);
    }
}

#[test]
fn init_finds_what_a_build_has_written() {
    let cdk = Project::of("image-recognition");
    fs::remove_file(cdk.path().join("tenantry.yaml")).unwrap();
    offline(&cdk, &["init"]).exits(0);
    let text = fs::read_to_string(cdk.path().join("tenantry.yaml")).unwrap();
    assert!(text.contains("\ntemplate: cdk.out\n") && text.contains("stack: \"{stack}\""), "{text}");
    offline(&cdk, &["check"]).exits(0);
    let sam = Project::empty();
    sam.write("template.yaml", "Resources: {}\n");
    sam.write(".aws-sam/build/template.yaml", "Resources: {T: {Type: AWS::SNS::Topic}}\n");
    offline(&sam, &["init"]).exits(0);
    offline(&sam, &["check"]).exits(0);
}

#[test]
fn the_committed_schema_is_the_types_schema() {
    let committed = fs::read_to_string(root().join("schema/tenantry.schema.json")).unwrap_or_default();
    let generated = offline(&Project::empty(), &["schema"]).exits(0).stdout;
    assert!(committed == generated, "run `make schema`");
}

#[test]
fn help_and_version_say_what_there_is() {
    let project = Project::empty();
    snapshot("help", &offline(&project, &["--help"]).exits(0).stdout);
    // The version, the commit, and what it was built for.
    let version = offline(&project, &["--version"]).exits(0).stdout;
    let build = version
        .trim()
        .strip_prefix(concat!("tenantry ", env!("CARGO_PKG_VERSION"), " ("))
        .unwrap_or_else(|| panic!("{version}"));
    let (commit, target) =
        build.strip_suffix(')').and_then(|build| build.split_once(", ")).unwrap_or_else(|| panic!("{version}"));
    assert!(commit.len() >= 12 && commit[..12].bytes().all(|byte| byte.is_ascii_hexdigit()), "{version}");
    assert!(target.contains("-linux-"), "{version}");
    snapshot("wrong-usage", &offline(&project, &["deploi"]).exits(2).stderr);
}

#[test]
fn shells_complete_and_the_manual_has_a_page_a_command() {
    let project = Project::empty();
    for (shell, has) in
        [("bash", "tenantry__subcmd__plan"), ("zsh", "#compdef tenantry"), ("fish", "complete -c tenantry")]
    {
        let script = offline(&project, &["completions", shell]).exits(0).stdout;
        assert!(script.contains(has) && script.contains("wait-for-approval"), "{shell}: {}", &script[..400]);
    }
    offline(&project, &["man", "manual"]).exits(0);
    let page = |name: &str| std::fs::read_to_string(project.path().join("manual").join(name)).unwrap();
    assert!(page("tenantry.1").contains("Exit codes: 0 done"));
    assert!(page("tenantry-plan.1").contains("Create a change set in every target"));
}

/// What a template needs of the role that CloudFormation uses, without a call.
#[test]
fn doctor_compares_what_the_template_needs_with_what_the_deployment_role_may() {
    let project = Project::of("policy-stores");
    let told = offline(&project, &["doctor", "--policy"]).exits(0);
    snapshot("doctor-policy", &told.stdout);
    project.replace(
        "tenantry.yaml",
        "stages:\n",
        "bootstrap: { deployment-policies: [arn:aws:iam::aws:policy/X] }\nstages:\n",
    );
    let own = offline(&project, &["doctor", "--policy"]).exits(0);
    assert!(own.stdout.contains("arn:aws:iam::aws:policy/X"), "{}", own.stdout);
    // All that the example's function needs at least, it has.
    let hello = offline(&Project::hello(), &["doctor", "--policy", "--output", "json"]).exits(0).json();
    let allowed = |action: &str| {
        hello["needed"]["AWS::Lambda::Function"].as_array().unwrap().iter().any(|one| one == action)
            && !hello["missing"]["AWS::Lambda::Function"].as_array().unwrap().iter().any(|one| one == action)
    };
    for action in ["lambda:CreateFunction", "lambda:GetFunction", "lambda:GetFunctionScalingConfig", "iam:PassRole"] {
        assert!(allowed(action), "{action}");
    }
}
