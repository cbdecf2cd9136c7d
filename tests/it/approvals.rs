//! Who may open the gate, for what, for how long, and how often; and that a stage has one rollout at a time.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::Duration;

use crate::bed::{Bed, Project, Ran, assert_untold, command, ran, snapshot, tenantry, tenantry_as};
use crate::deploy::{deployed, planned};

/// The hello example with another gate for prod.
fn gated(gate: &str) -> Project {
    let project = Project::hello();
    project.replace("tenantry.yaml", "gate: { approval: required }", &format!("gate: {{ approval: required{gate} }}"));
    project
}

#[test]
fn four_eyes_see_a_plan_and_the_approval_is_used_once() {
    let (bed, project) = (Bed::start(), gated(", four-eyes: true, principals: [\"arn:aws:iam::*:user/*\"]"));
    let digest = planned(&bed, &project);
    let own = tenantry(&bed, &project, &["approve", &digest]).exits(4);
    snapshot("four-eyes", &own.stderr);
    tenantry(&bed, &project, &["apply", &digest]).exits(3);
    // The flag is an approval by whoever runs it, and no way around.
    tenantry(&bed, &project, &["apply", &digest, "--approve", &digest]).exits(4);
    assert_eq!(bed.actions("ExecuteChangeSet").len(), 0);

    let approved = tenantry_as("approver", &bed, &project, &["approve", &digest, "--comment", "as agreed"]).exits(0);
    snapshot("approve", &approved.stdout);
    let again = tenantry_as("approver", &bed, &project, &["approve", &digest]).exits(0);
    assert!(again.stdout.contains("was there already"), "{}", again.stdout);
    // Planning the same again goes on under the approval.
    assert_eq!(planned(&bed, &project), digest);
    let applied = tenantry(&bed, &project, &["apply", &digest]).exits(0);
    assert!(applied.stderr.contains("approved by arn:aws:iam::111111111111:user/approver (as agreed)"));
    snapshot("used", &tenantry(&bed, &project, &["apply", &digest]).exits(4).stderr);
    tenantry_as("approver", &bed, &project, &["approve", &digest]).exits(4);
    assert_eq!(bed.actions("ExecuteChangeSet").len(), 2);

    let record: serde_json::Value = bed
        .records()
        .lines()
        .find_map(|line| line.contains("/approved-").then(|| line.split_once(" b'").unwrap().1.replace("\\n", "")))
        .map(|text| serde_json::from_str(text.trim_end_matches('\'')).unwrap())
        .unwrap();
    assert_eq!(record["by"]["principal"], "arn:aws:iam::111111111111:user/approver");
    assert_eq!(record["seen"][0], "2 targets, 1 distinct plan");
    assert!(record["until"].as_str().unwrap() > record["at"].as_str().unwrap());
}

#[test]
fn an_edited_an_expired_and_a_foreign_approval_are_refused() {
    let (bed, project) = (Bed::start(), gated(", expires: 1h"));
    let apply = |digest: &str| tenantry(&bed, &project, &["apply", digest]);
    let digest = planned(&bed, &project);
    tenantry_as("approver", &bed, &project, &["approve", &digest, "--expires", "30m"]).exits(0);
    bed.edit("/approved-", "body.replace(b'user/approver', b'user/director')");
    snapshot("edited-approval", &apply(&digest).exits(4).stderr);
    bed.edit("/approved-", "body.replace(b'user/director', b'user/approver')");
    // Whose approval counts is part of what was approved.
    project.replace("tenantry.yaml", "expires: 1h", "expires: 2s");
    let other = apply(&digest).exits(4).stderr;
    assert!(other.contains("whose approval the gate asks for differs"), "{other}");
    let short = planned(&bed, &project);
    tenantry_as("approver", &bed, &project, &["approve", &short]).exits(0);
    sleep(Duration::from_millis(2100));
    snapshot("expired-approval", &apply(&short).exits(4).stderr);
    // It can be given again.
    let again = tenantry_as("approver", &bed, &project, &["approve", &short]).exits(0);
    assert!(!again.stdout.contains("was there already"), "{}", again.stdout);
    // Somebody who may not approve, and a record that was brought from another plan.
    project.replace("tenantry.yaml", "expires: 2s", "expires: 1h, principals: [\"arn:aws:iam::*:user/second\"]");
    let foreign = planned(&bed, &project);
    tenantry_as("approver", &bed, &project, &["approve", &foreign]).exits(4);
    bed.boto3(
        "111111111111",
        &format!(
            "s3 = client('s3')\nroot = 'tenantry/SampleApplication/approvals/'\n\
             key = s3.list_objects_v2(Bucket='{0}', Prefix=root + '{digest}')['Contents'][0]['Key']\n\
             body = s3.get_object(Bucket='{0}', Key=key)['Body'].read()\n\
             s3.put_object(Bucket='{0}', Key=key.replace('{digest}', '{foreign}'), Body=body, \
             ServerSideEncryption='aws:kms', SSEKMSKeyId='{1}')",
            bed.fact("bucket"),
            bed.fact("kms_key"),
        ),
    );
    snapshot("foreign-approval", &apply(&foreign).exits(4).stderr);
    assert_eq!(bed.actions("ExecuteChangeSet").len(), 0);
    tenantry_as("second", &bed, &project, &["approve", &foreign]).exits(0);
    apply(&foreign).exits(0);
}

/// Who planned is part of the record, and nobody can edit it; who plans the same again has planned it too.
#[test]
fn who_planned_can_neither_be_edited_nor_be_forgotten() {
    let (bed, project) = (Bed::start(), gated(", four-eyes: true"));
    let digest = planned(&bed, &project);
    bed.edit("/plans/", "body.replace(b'user/builder', b'user/director')");
    snapshot("edited-planner", &tenantry(&bed, &project, &["approve", &digest]).exits(4).stderr);
    tenantry(&bed, &project, &["apply", &digest]).exits(4);
    bed.edit("/plans/", "body.replace(b'user/director', b'user/builder')");

    // The approver is behind a build that plans the same once more; then somebody else is.
    let build_of = |who: &str| {
        let mut command = command(&project, Some(&bed), &["plan", "--stage", "prod"]);
        command.env("TENANTRY_SOURCE_IDENTITY", who);
        ran(command).exits(0);
    };
    build_of("ann");
    build_of("bob");
    let mut own = command(&project, Some(&bed), &["approve", &digest]);
    own.envs(bed.user("approver")).env("TENANTRY_SOURCE_IDENTITY", "ann");
    let own = ran(own).exits(4);
    assert!(own.stderr.contains("user/approver (ann) does not count: four eyes"), "{}", own.stderr);
    tenantry_as("second", &bed, &project, &["approve", &digest]).exits(0);
    // A record that nobody can read leads to no plan of fewer planners: what was approved before is void.
    bed.edit("/plans/", "b'{}'");
    assert_eq!(planned(&bed, &project), digest);
    tenantry(&bed, &project, &["apply", &digest]).exits(3);
    assert_eq!(bed.actions("ExecuteChangeSet").len(), 0);
}

#[test]
fn two_have_to_approve_and_one_can_refuse() {
    let (bed, project) = (Bed::start(), gated(", approvers: 2"));
    let digest = planned(&bed, &project);
    let one = tenantry_as("approver", &bed, &project, &["approve", &digest]).exits(0);
    assert!(one.stdout.contains("waits for 1 more to approve"), "{}", one.stdout);
    tenantry(&bed, &project, &["apply", &digest]).exits(3);
    tenantry_as("second", &bed, &project, &["reject", &digest, "--why", "not on a Friday"]).exits(0);
    let refused = tenantry(&bed, &project, &["apply", &digest]).exits(4);
    assert!(refused.stderr.contains("refused by arn:aws:iam::111111111111:user/second: not on a Friday"));
    // Planned again, it is asked again.
    assert_eq!(planned(&bed, &project), digest);
    tenantry(&bed, &project, &["apply", &digest]).exits(3);
    for user in ["approver", "second"] {
        tenantry_as(user, &bed, &project, &["approve", &digest]).exits(0);
    }
    tenantry(&bed, &project, &["apply", &digest]).exits(0);
}

#[test]
fn a_newer_plan_supersedes_an_older_one_and_says_so() {
    let (bed, project) = (Bed::start(), Project::hello());
    let old = planned(&bed, &project);
    project.replace("src/index.js", "it greets", "it says hello");
    let newer = tenantry(&bed, &project, &["plan", "--stage", "prod"]).exits(0);
    assert!(newer.stderr.contains("this plan supersedes plan"), "{}", newer.stderr);
    snapshot("superseded", &tenantry_as("approver", &bed, &project, &["approve", &old]).exits(4).stderr);
    tenantry(&bed, &project, &["apply", &old, "--approve", &old]).exits(4);
    assert_eq!(bed.actions("ExecuteChangeSet").len(), 0);
}

#[test]
fn a_harmless_plan_needs_nobody() {
    let (bed, project) = (Bed::start(), Project::hello());
    deployed(&bed, &project);
    project.replace(
        "tenantry.yaml",
        "gate: { approval: required }",
        "gate: { approval: required, auto-approve: [no-removals, no-replacements, { resource-types: [\"AWS::Lambda::*\"] }, { max-targets: 2 }] }",
    );
    project.replace("src/index.js", "it greets", "it says hello");
    let run = tenantry(&bed, &project, &["deploy"]).exits(0);
    assert!(
        run.stderr.contains("approved by rule: no removals, no replacements, only AWS::Lambda::*, at most 2 targets")
    );
    // A rule is none against somebody who refuses.
    project.replace("src/index.js", "it says hello", "it says nothing");
    let digest = planned(&bed, &project);
    tenantry_as("second", &bed, &project, &["reject", &digest, "--why", "not this"]).exits(0);
    tenantry(&bed, &project, &["apply", &digest]).exits(4);
    project.replace("src/index.js", "it says nothing", "it says hello");
    project.replace("tenantry.yaml", "{ max-targets: 2 }", "{ max-targets: 1 }");
    project.replace("src/index.js", "it says hello", "it greets you");
    tenantry(&bed, &project, &["deploy"]).exits(3);
}

#[test]
fn a_stack_that_was_changed_behind_the_plans_back_is_refused() {
    let (bed, project) = (Bed::start(), Project::hello());
    deployed(&bed, &project);
    project.replace("src/index.js", "it greets", "it says hello");
    let digest = planned(&bed, &project);
    tenantry_as("approver", &bed, &project, &["approve", &digest]).exits(0);
    bed.forget();
    bed.boto3(
        "333333333333",
        "import time\ncf = client('cloudformation'); stack = 'SampleApplication-unicorn-stack-eu-west-1'\n\
         body = cf.get_template(StackName=stack, TemplateStage='Original')['TemplateBody']\n\
         body = body if isinstance(body, str) else json.dumps(body)\n\
         assert 'Hello Lambda.' in body, body\n\
         p = [dict(ParameterKey=k, UsePreviousValue=True) for k in ('S3Bucket', 'S3Key', 'ApplicationName')]\n\
         cf.update_stack(StackName=stack, TemplateBody=body.replace('Hello Lambda.', 'Hacked.'), Parameters=p, Capabilities=['CAPABILITY_IAM', 'CAPABILITY_AUTO_EXPAND'])\n\
         time.sleep(1)",
    );
    let refused = tenantry(&bed, &project, &["apply", &digest]).exits(4);
    snapshot("behind-the-back", &refused.stderr);
    assert_eq!(bed.actions("ExecuteChangeSet").len(), 0);
}

/// Also a stack that the plan does not touch.
#[test]
fn an_unchanged_stack_that_was_changed_behind_the_plans_back_is_refused() {
    let (bed, project) = (Bed::start(), Project::hello());
    deployed(&bed, &project);
    project.replace("tenants.yaml", "- name: gnome\n", "- name: gnome\n  tags: { tier: gold }\n");
    let digest = planned(&bed, &project);
    tenantry_as("approver", &bed, &project, &["approve", &digest]).exits(0);
    bed.forget();
    bed.boto3(
        "333333333333",
        "import time\ncf = client('cloudformation'); stack = 'SampleApplication-unicorn-stack-eu-west-1'\n\
         p = [dict(ParameterKey=k, UsePreviousValue=True) for k in ('S3Bucket', 'S3Key')]\n\
         p.append(dict(ParameterKey='ApplicationName', ParameterValue='SampleApplication-other'))\n\
         time.sleep(1)\n\
         cf.update_stack(StackName=stack, UsePreviousTemplate=True, Parameters=p, Capabilities=['CAPABILITY_IAM', 'CAPABILITY_AUTO_EXPAND'])\n\
         time.sleep(1)",
    );
    let refused = tenantry(&bed, &project, &["apply", &digest]).exits(4);
    assert!(refused.stderr.contains("target unicorn/eu-west-1: CloudFormation would now"), "{}", refused.stderr);
    assert_eq!(bed.actions("ExecuteChangeSet").len(), 0);
}

#[test]
fn an_apply_waits_for_its_approval() {
    let (bed, project) = (Bed::start(), Project::hello());
    let digest = planned(&bed, &project);
    let (mut child, heard) =
        begun(&bed, &project, &["apply", &digest, "--wait-for-approval", "2m"], "waiting for the approval");
    tenantry_as("approver", &bed, &project, &["approve", &digest]).exits(0);
    assert_eq!(child.wait().unwrap().code(), Some(0), "{heard}");
    assert_eq!(bed.actions("ExecuteChangeSet").len(), 2);
}

/// Starts the binary and reads what it says until a text comes.
pub fn begun(bed: &Bed, project: &Project, arguments: &[&str], until: &str) -> (Child, String) {
    let (child, heard, _) = begun_and_read(bed, project, arguments, until);
    (child, heard)
}

/// Starts the binary and reads what it says until a text comes; the rest is read beside it.
fn begun_and_read(
    bed: &Bed,
    project: &Project,
    arguments: &[&str],
    until: &str,
) -> (Child, String, JoinHandle<String>) {
    let mut child =
        command(project, Some(bed), arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut reader = BufReader::new(child.stderr.take().unwrap());
    let mut heard = String::new();
    while !heard.contains(until) {
        assert!(reader.read_line(&mut heard).unwrap() > 0, "{heard}");
    }
    assert_untold(&heard);
    let rest = std::thread::spawn(move || {
        let rest = std::io::read_to_string(reader).unwrap_or_default();
        assert_untold(&rest);
        rest
    });
    (child, heard, rest)
}

/// Safety rule 8, over the wire.
#[test]
fn a_stage_has_one_rollout_at_a_time() {
    let (bed, project) = (Bed::with(&["--delay", "4"]), Project::hello());
    project.replace("tenantry.yaml", "gate: { approval: required }", "gate: {}");
    let plan = |tenant: &str| -> String {
        let planned = tenantry(&bed, &project, &["plan", "--stage", "prod", "--tenant", tenant, "--output", "json"]);
        planned.exits(0).json()["digest"].as_str().unwrap().to_owned()
    };
    let (unicorn, gnome) = (plan("unicorn"), plan("gnome"));
    let apply = |arguments: &[&str]| -> Ran { tenantry(&bed, &project, &[&["apply"], arguments].concat()) };

    let (mut first, _) = begun(&bed, &project, &["apply", &unicorn], "CREATE_IN_PROGRESS");
    let refused = apply(&[&gnome]).exits(4);
    snapshot("locked", &refused.stderr);
    assert_eq!(bed.actions("ExecuteChangeSet").len(), 1);
    let waited = apply(&[&gnome, "--wait-for-lock", "2m"]).exits(0);
    assert!(waited.stderr.contains("waiting for the lock of prod"), "{}", waited.stderr);
    assert_eq!(first.wait().unwrap().code(), Some(0));

    // Who waits for the lock is weighed again when it has it.
    project.replace("src/index.js", "it greets", "it smiles");
    let unicorn = plan("unicorn");
    let (mut first, _) = begun(&bed, &project, &["apply", &unicorn], "UPDATE_IN_PROGRESS");
    project.replace("tenantry.yaml", "gate: {}", "gate: { approval: required }");
    let gnome = plan("gnome");
    tenantry_as("approver", &bed, &project, &["approve", &gnome]).exits(0);
    let waiting = ["apply", &gnome, "--wait-for-lock", "2m"];
    let (mut waiting, _, rest) = begun_and_read(&bed, &project, &waiting, "waiting for the lock");
    bed.forget();
    tenantry_as("second", &bed, &project, &["reject", &gnome, "--why", "it rains"]).exits(0);
    assert_eq!(first.wait().unwrap().code(), Some(0));
    assert_eq!(waiting.wait().unwrap().code(), Some(4));
    let rest = rest.join().unwrap();
    assert!(rest.contains("was refused by") && rest.contains("it rains"), "{rest}");
    assert_eq!(bed.actions("ExecuteChangeSet").len(), 0);
    project.replace("tenantry.yaml", "gate: { approval: required }", "gate: {}");

    // A run that was killed leaves its lock, which only its id opens.
    project.replace("src/index.js", "it smiles", "it says hello");
    let gnome = {
        let unicorn = plan("unicorn");
        let gnome = plan("gnome");
        let (mut dead, _) = begun(&bed, &project, &["apply", &unicorn], "UPDATE_IN_PROGRESS");
        dead.kill().unwrap();
        dead.wait().unwrap();
        gnome
    };
    let refused = apply(&[&gnome]).exits(4);
    let id = refused.stderr.split("unlock --stage prod ").nth(1).unwrap()[..12].to_owned();
    tenantry(&bed, &project, &["unlock", "--stage", "prod", "000000000000"]).exits(4);
    let taken = tenantry(&bed, &project, &["unlock", "--stage", "prod", &id]).exits(0);
    assert!(taken.stdout.contains("is taken away"), "{}", taken.stdout);
    apply(&[&gnome]).exits(0);
}

/// Answers every request with what a function makes of it, as servers do that no emulator knows.
pub fn answering(answer: impl Fn(&str) -> String + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let (mut head, mut length) = (String::new(), 0);
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                let lower = line.to_lowercase();
                length = lower.strip_prefix("content-length:").map_or(length, |text| text.trim().parse().unwrap());
                head.push_str(&line);
                if line.trim().is_empty() {
                    break;
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            let answer = answer(&format!("{head}{}", String::from_utf8_lossy(&body)));
            let status = match () {
                () if answer.is_empty() => "403 Forbidden",
                () if answer.starts_with("<ErrorResponse") => "400 Bad Request",
                () => "200 OK",
            };
            let _ = write!(
                stream,
                "HTTP/1.1 {status}\r\ncontent-type: application/x-amz-json-1.1\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{answer}",
                answer.len()
            );
        }
    });
    endpoint
}

/// No emulator knows the answers of approval actions: they are CodePipeline's as its API reference has them.
#[test]
fn the_answer_of_a_pipelines_approval_action_becomes_the_record() {
    let (bed, project) = (Bed::start(), gated(", four-eyes: true, principals: [\"arn:aws:iam::*:user/director\"]"));
    let outputs = project.path().join("outputs");
    let plan = ["plan", "--stage", "prod", "--output", "json", "--outputs-file", outputs.to_str().unwrap()];
    let plan = tenantry(&bed, &project, &plan).exits(0).json();
    let digest = plan["digest"].as_str().unwrap().to_owned();
    let exported = std::fs::read_to_string(&outputs).unwrap();
    let value =
        |name: &str| exported.lines().find_map(|line| line.strip_prefix(&format!("{name}="))).unwrap().to_owned();
    let summary = value("plan-summary");
    assert!(summary.contains(&digest) && summary.chars().count() <= 512, "{summary}");
    assert!(
        value("plan-link")
            .starts_with("https://eu-west-1.console.aws.amazon.com/s3/object/tenantry-artifacts-111111111111?")
    );

    let asked = |status: &str, by: &str, shown: &str| {
        let answer = serde_json::json!({"actionExecutionDetails": [
            {"actionName": "Build", "status": "Succeeded", "input": {"actionTypeId": {"category": "Build", "owner": "AWS", "provider": "CodeBuild", "version": "1"}}},
            {"actionName": "Approve", "actionExecutionId": by, "status": status, "updatedBy": by, "lastUpdateTime": 1_700_000_000,
             "input": {"actionTypeId": {"category": "Approval", "owner": "AWS", "provider": "Manual", "version": "1"},
                       "resolvedConfiguration": {"CustomData": shown}},
             "output": {"executionResult": {"externalExecutionSummary": "seen"}}}]});
        let answer = answer.to_string().replace(
            "1700000000",
            &format!("{}", std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()),
        );
        let endpoint = answering(move |request| {
            assert!(
                request.to_lowercase().contains("x-amz-target: codepipeline_20150709.listactionexecutions"),
                "{request}"
            );
            assert!(
                request.contains(r#""pipelineName":"release""#)
                    && request.contains(r#""pipelineExecutionId":"execution-7""#),
                "{request}"
            );
            answer.clone()
        });
        let mut command = command(&project, Some(&bed), &["approve", &digest, "--from-codepipeline"]);
        command.env("AWS_ENDPOINT_URL_CODEPIPELINE", endpoint);
        command.env("CODEBUILD_INITIATOR", "codepipeline/release").env("TENANTRY_PIPELINE_EXECUTION_ID", "execution-7");
        ran(command)
    };
    let director = "arn:aws:iam::111111111111:user/director";
    asked("Succeeded", director, "another plan").exits(3);
    asked("InProgress", director, &summary).exits(3);
    asked("Succeeded", "arn:aws:iam::111111111111:user/somebody", &summary).exits(4);
    tenantry(&bed, &project, &["apply", &digest]).exits(4);
    let approved = asked("Succeeded", director, &summary).exits(0);
    assert!(
        approved.stdout.contains("approved by arn:aws:iam::111111111111:user/director (seen)"),
        "{}",
        approved.stdout
    );
    tenantry(&bed, &project, &["apply", &digest]).exits(0);
    // Planned again, the same answer is none: the action has to ask again.
    tenantry(&bed, &project, &["destroy", "--stage", "prod", "--confirm", "prod"]).exits(0);
    assert_eq!(planned(&bed, &project), digest);
    let spent = asked("Succeeded", director, &summary).exits(4);
    assert!(spent.stderr.contains("it was read before, and is over"), "{}", spent.stderr);
    tenantry(&bed, &project, &["apply", &digest]).exits(3);
}

/// GitHub's answer as its REST reference has it.
#[test]
fn the_reviewers_of_a_github_run_approve() {
    let (bed, project) = (Bed::start(), gated(", four-eyes: true, principals: [\"github:*\"]"));
    let in_github = |arguments: &[&str]| {
        let mut command = command(&project, Some(&bed), arguments);
        command.envs([("GITHUB_ACTIONS", "true"), ("GITHUB_ACTOR", "planner"), ("GITHUB_RUN_ID", "42")]);
        command
    };
    let plan = || -> String {
        let planned = ran(in_github(&["plan", "--stage", "prod", "--output", "json"])).exits(0);
        planned.json()["digest"].as_str().unwrap().to_owned()
    };
    let digest = plan();
    let apply = |reviews: String| {
        let endpoint = answering(move |request| {
            assert!(request.starts_with("GET /repos/acme/app/actions/runs/42/approvals "), "{request}");
            if request.contains("Bearer ghs_token") { reviews.clone() } else { String::new() }
        });
        let mut command = in_github(&["apply", &digest, "--approve", &digest]);
        command.envs([("GITHUB_TOKEN", "ghs_token"), ("GITHUB_REPOSITORY", "acme/app")]);
        command.env("GITHUB_API_URL", endpoint);
        ran(command)
    };
    let none = apply("[]".to_owned()).exits(4);
    assert!(none.stderr.contains("nobody has reviewed environment prod in run 42 of acme/app"), "{}", none.stderr);
    let review = |login: &str, environment: &str| {
        format!(
            r#"{{"state": "approved", "comment": "", "user": {{"login": "{login}"}}, "environments": [{{"name": "{environment}"}}]}}"#
        )
    };
    // Who lets a job into another environment says nothing about this one.
    apply(format!("[{}]", review("octocat", "staging"))).exits(4);
    // One who may not approve takes nothing from one who may; one who has planned may not.
    let own = apply(format!("[{}]", review("planner", "prod"))).exits(4);
    assert!(own.stderr.contains("github:planner does not count: four eyes"), "{}", own.stderr);
    assert_eq!(bed.actions("ExecuteChangeSet").len(), 0);
    let both = format!("[{},{}]", review("planner", "prod"), review("octocat", "prod"));
    assert!(apply(both.clone()).exits(0).stderr.contains("approved by github:octocat"));
    // Planned again, the same review is no answer: only a new one is.
    tenantry(&bed, &project, &["destroy", "--stage", "prod", "--confirm", "prod"]).exits(0);
    assert_eq!(plan(), digest);
    let spent = apply(both).exits(4);
    assert!(spent.stderr.contains("github:octocat does not count: it was read before"), "{}", spent.stderr);
    let again = ["planner", "octocat", "octocat"].map(|login| review(login, "prod")).join(",");
    apply(format!("[{again}]")).exits(0);
}

/// One screen for sixty customers: those that all have the same ahead, and those that have not.
#[test]
fn a_plan_for_sixty_targets_in_three_classes_is_one_screen() {
    let (bed, project) = (Bed::with(&["--tenants", "60"]), Project::hello());
    let mut tenants = String::from("- name: sandbox\n  account: \"222222222222\"\n");
    for number in 1..=60 {
        let _ = write!(tenants, "- name: t{number:03}\n  account: \"{}\"\n", 500_000_000_000_u64 + number);
        if number == 17 {
            tenants.push_str("  parameters: { Size: \"512\" }\n");
        }
    }
    project.write("tenants.yaml", &tenants);
    project.replace("application.yaml", "Resources:\n", "  Size:\n    Type: Number\n    Default: 128\n\nResources:\n");
    project.replace("application.yaml", "MemorySize: 128", "MemorySize: !Ref Size");
    // Two customers come later than the others.
    for late in ["t058", "t059"] {
        project.replace(
            "tenants.yaml",
            &format!("- name: {late}\n"),
            &format!("- name: {late}\n  labels: {{ late: yes }}\n"),
        );
    }
    let early: Vec<String> =
        (1..=60).filter(|number| *number != 58 && *number != 59).map(|number| format!("t{number:03}")).collect();
    let mut arguments = vec!["plan", "--stage", "prod", "--output", "json"];
    arguments.extend(early.iter().flat_map(|tenant| ["--tenant", tenant.as_str()]));
    // The one with its own size gets it in the second release.
    project.replace("tenants.yaml", "  parameters: { Size: \"512\" }\n", "");
    let first = tenantry(&bed, &project, &arguments).exits(0).json();
    let digest = first["digest"].as_str().unwrap();
    tenantry(&bed, &project, &["apply", digest, "--approve", digest]).exits(0);
    project.write(
        "tenants.yaml",
        &std::fs::read_to_string(project.path().join("tenants.yaml"))
            .unwrap()
            .replace("- name: t017\n", "- name: t017\n  parameters: { Size: \"512\" }\n"),
    );
    project.replace("src/index.js", "it greets", "it says hello");

    let plan = tenantry(&bed, &project, &["plan", "--stage", "prod"]).exits(0);
    assert!(plan.stdout.lines().count() < 40, "{}", plan.stdout);
    snapshot("sixty", &plan.stdout);
    let markdown = tenantry(&bed, &project, &["plan", "--stage", "prod", "--output", "markdown"]).exits(0);
    snapshot("sixty-markdown", &markdown.stdout);
    let json = tenantry(&bed, &project, &["plan", "--stage", "prod", "--output", "json"]).exits(0).json();
    let classes: Vec<usize> =
        json["classes"].as_array().unwrap().iter().map(|class| class["targets"].as_array().unwrap().len()).collect();
    assert_eq!(classes, [1, 2, 57]);
}

/// The emulator makes no change sets for nested stacks: CloudFormation's answers are as its API reference has them.
#[test]
fn changes_in_nested_stacks_are_part_of_the_plan() {
    let (bed, project) = (Bed::start(), Project::hello());
    let nested = "  Network:\n    Type: AWS::CloudFormation::Stack\n    Properties:\n      TemplateURL: https://example.com/network.yaml\n";
    project.replace("application.yaml", "Resources:\n", &format!("Resources:\n{nested}"));
    let change = |action: &str, id: &str, kind: &str, rest: &str| {
        format!(
            "<member><Type>Resource</Type><ResourceChange><Action>{action}</Action><LogicalResourceId>{id}</LogicalResourceId>\
             <ResourceType>{kind}</ResourceType>{rest}</ResourceChange></member>"
        )
    };
    let arn = "arn:aws:cloudformation:eu-west-1:222222222222:changeSet";
    let inner = change("Remove", "Table", "AWS::DynamoDB::Table", "<PolicyAction>Delete</PolicyAction>");
    let middle =
        change("Modify", "Storage", "AWS::CloudFormation::Stack", &format!("<ChangeSetId>{arn}/inner</ChangeSetId>"));
    let outer =
        change("Modify", "Network", "AWS::CloudFormation::Stack", &format!("<ChangeSetId>{arn}/middle</ChangeSetId>"));
    let inner_is_there = Arc::new(AtomicBool::new(true));
    let is_there = inner_is_there.clone();
    let endpoint = answering(move |request| {
        let result = |action: &str, body: &str| {
            let xmlns = "http://cloudformation.amazonaws.com/doc/2010-05-15/";
            format!("<{action}Response xmlns=\"{xmlns}\"><{action}Result>{body}</{action}Result></{action}Response>")
        };
        let stack =
            "<StackId>arn:aws:cloudformation:eu-west-1:222222222222:stack/s/1</StackId><StackName>s</StackName>";
        let changes = |changes: &str| {
            let status = "<Status>CREATE_COMPLETE</Status><ExecutionStatus>AVAILABLE</ExecutionStatus>";
            result("DescribeChangeSet", &format!("{stack}{status}<Changes>{changes}</Changes>"))
        };
        match () {
            () if request.contains("Action=DescribeStacks") => {
                let status =
                    "<StackStatus>CREATE_COMPLETE</StackStatus><CreationTime>2026-01-01T00:00:00Z</CreationTime>";
                result("DescribeStacks", &format!("<Stacks><member>{stack}{status}</member></Stacks>"))
            }
            () if request.contains("Action=CreateChangeSet") => {
                assert!(request.contains("IncludeNestedStacks=true"), "{request}");
                result("CreateChangeSet", "<Id>root</Id>")
            }
            () if request.contains("changeSet%2Finner") && is_there.load(Ordering::SeqCst) => changes(&inner),
            () if request.contains("changeSet%2Finner") => "<ErrorResponse><Error><Type>Sender</Type>\
                <Code>ChangeSetNotFound</Code><Message>does not exist</Message></Error></ErrorResponse>"
                .to_owned(),
            () if request.contains("Action=DeleteChangeSet") => result("DeleteChangeSet", ""),
            () if request.contains("changeSet%2Fmiddle") => changes(&middle),
            () if request.contains("Action=DescribeChangeSet") => changes(&outer),
            () => panic!("{request}"),
        }
    });
    let plan = || {
        let mut command = command(&project, Some(&bed), &["plan", "--stage", "dev"]);
        command.env("AWS_ENDPOINT_URL_CLOUDFORMATION", &endpoint);
        ran(command)
    };
    snapshot("nested", &plan().exits(0).stdout);
    // What cannot be read is not left out of the plan.
    inner_is_there.store(false, Ordering::SeqCst);
    let unread = plan().exits(1).stdout;
    assert!(unread.contains("without the change set of the nested stack Network/Storage"), "{unread}");
}

/// A rejection that somebody has edited is none the less for it.
#[test]
fn an_edited_rejection_opens_nothing() {
    let (bed, project) = (Bed::start(), gated(""));
    let digest = planned(&bed, &project);
    tenantry_as("second", &bed, &project, &["reject", &digest, "--why", "it rains"]).exits(0);
    bed.edit("/rejected-", "body.replace(b'it rains', b'it shines')");
    tenantry_as("approver", &bed, &project, &["approve", &digest]).exits(4);
    let refused = tenantry(&bed, &project, &["apply", &digest]).exits(4).stderr;
    assert!(refused.contains("somebody has refused it, and the record of that was edited"), "{refused}");
}

/// Where nothing changes there is nothing to approve, also where plan and apply are two runs.
#[test]
fn a_plan_that_changes_nothing_needs_no_approval() {
    let (bed, project) = (Bed::start(), Project::hello());
    let digest = planned(&bed, &project);
    tenantry(&bed, &project, &["apply", &digest, "--approve", &digest]).exits(0);
    let nothing = planned(&bed, &project);
    assert_ne!(nothing, digest);
    tenantry(&bed, &project, &["apply", &nothing]).exits(0);
    tenantry(&bed, &project, &["status", "--stage", "prod", "--not-on", "000000000000"]).exits(2);
}
