//! Looking at a fleet that others touch too, and bringing back what is stuck.

use crate::bed::{Bed, Project, tenantry};
use crate::deploy::planned;

#[test]
fn what_was_changed_by_hand_is_found() {
    let (bed, project) = (Bed::start(), Project::hello());
    tenantry(&bed, &project, &["deploy", "--stage", "dev"]).exits(0);
    let status = || tenantry(&bed, &project, &["status", "--stage", "dev", "--drift"]).exits(0).stdout;
    assert!(status().contains("0 of 1 stack drifted"), "{}", status());
    let change =
        "client('lambda').update_function_configuration(FunctionName='SampleApplication-sandbox', MemorySize=512)";
    bed.boto3("222222222222", change);
    let found = status();
    assert!(found.contains("1 of 1 stack drifted"), "{found}");
    let drifted = "drifted: sandbox/eu-west-1: SampleApplication (AWS::Lambda::Function) modified: /MemorySize";
    assert!(found.contains(drifted), "{found}");
}

/// A function that cannot go back, since its former zip is gone, and another that cannot be created.
#[test]
fn a_rollback_that_has_failed_goes_on_without_what_somebody_has_named() {
    let (bed, project) = (Bed::start(), Project::hello());
    tenantry(&bed, &project, &["deploy", "--stage", "dev"]).exits(0);
    bed.boto3(
        "111111111111",
        &format!(
            "s3 = client('s3'); bucket = '{}'\n\
             keys = [o['Key'] for o in s3.list_objects_v2(Bucket=bucket)['Contents'] if '/artifacts/' in o['Key']]\n\
             s3.delete_object(Bucket=bucket, Key=keys[0])",
            bed.fact("bucket")
        ),
    );
    project.replace("src/index.js", "it greets", "it says hello");
    project.replace(
        "application.yaml",
        "Resources:\n",
        "Resources:\n  Broken:\n    Type: AWS::Lambda::Function\n    DependsOn: SampleApplication\n    Properties:\n      \
         Runtime: nodejs24.x\n      Handler: index.handler\n      Role: !GetAtt SampleApplicationRole.Arn\n      \
         Code: { S3Bucket: !Ref S3Bucket, S3Key: missing.zip }\n",
    );
    let failed = tenantry(&bed, &project, &["deploy", "--stage", "dev"]).exits(1);
    assert!(failed.stdout.contains("sandbox/eu-west-1  rollback-failed: Broken"), "{}", failed.stdout);

    let recover = |more: &[&str]| tenantry(&bed, &project, &[&["recover", "--stage", "dev"], more].concat());
    // Nobody has said yes yet.
    let asked = recover(&[]).exits(3);
    assert!(asked.stderr.contains("SampleApplication (AWS::Lambda::Function)"), "{}", asked.stderr);
    assert!(asked.stderr.contains("it will be tried again"), "{}", asked.stderr);
    assert_eq!(bed.actions("ContinueUpdateRollback").len(), 0);
    let again = recover(&["--confirm", "dev"]).exits(1);
    assert!(again.stdout.contains("rollback-failed"), "{}", again.stdout);
    let skipped = recover(&["--confirm", "dev", "--skip", "SampleApplication"]).exits(0);
    assert!(skipped.stderr.contains("it will be left as it is"), "{}", skipped.stderr);
    assert!(skipped.stdout.contains("sandbox/eu-west-1  recovered"), "{}", skipped.stdout);
    let nothing = recover(&["--confirm", "dev"]).exits(0);
    assert!(nothing.stderr.contains("there is nothing to recover"), "{}", nothing.stderr);
    // Who cannot be looked at is not said to be well, and is no failure that is tolerated.
    project.replace("tenantry.yaml", "parameters:\n", "roles: { access: Nobody }\nparameters:\n");
    project.replace("tenantry.yaml", "  dev:\n", "  dev:\n    rollout: { failure-tolerance: 3 }\n");
    let unread = recover(&["--confirm", "dev"]).exits(1);
    assert!(unread.stderr.contains("not all targets could be looked at"), "{}", unread.stderr);
    assert!(unread.stdout.contains("sandbox/eu-west-1  failed: "), "{}", unread.stdout);
}

/// Alarms over the wire: one that is there and quiet lets a rollout pass and is handed to CloudFormation; one that has
/// gone off stops the rollout after the canary; and stack options are sent.
#[test]
fn an_alarm_stops_the_rollout_after_the_canary() {
    let (bed, project) = (Bed::start(), Project::hello());
    project.replace(
        "tenantry.yaml",
        "rollout: { max-concurrency: 50, failure-tolerance: 0 }",
        "rollout:\n      canary: { tenants: [unicorn] }\n      alarms: [{ name: \"errors-{tenant}\", roll-back: true }, { name: fleet, account: tooling }]\n    \
         stack-options:\n      monitoring-minutes: 0\n      termination-protection: true\n      \
         stack-policy: { Statement: [{ Effect: Allow, Action: \"Update:*\", Principal: \"*\", Resource: \"*\" }] }",
    );
    let alarm = |account: &str, name: &str, state: &str| {
        bed.boto3(
            account,
            &format!(
                "c = client('cloudwatch')\nc.put_metric_alarm(AlarmName='{name}', MetricName='Errors', Namespace='AWS/Lambda', Statistic='Sum', \
                 Period=60, EvaluationPeriods=1, Threshold=1, ComparisonOperator='GreaterThanThreshold')\n\
                 c.set_alarm_state(AlarmName='{name}', StateValue='{state}', StateReason='as the test wants it')"
            ),
        );
    };
    let deploy = || {
        let digest = planned(&bed, &project);
        tenantry(&bed, &project, &["apply", &digest, "--approve", &digest])
    };
    // One that is not there watches nothing.
    let missing = deploy().exits(1);
    assert!(missing.stderr.contains("the rollout stops: alarm fleet does not exist"), "{}", missing.stderr);
    assert_eq!(bed.actions("ExecuteChangeSet").len(), 0);

    alarm("111111111111", "fleet", "OK");
    alarm("444444444444", "errors-gnome", "OK");
    alarm("333333333333", "errors-unicorn", "ALARM");
    project.replace("src/index.js", "it greets", "it smiles");
    let stopped = deploy().exits(1);
    let why = "unicorn/eu-west-1: alarm errors-unicorn has gone off: as the test wants it";
    assert!(stopped.stderr.contains(&format!("the rollout stops: {why}")), "{}", stopped.stderr);
    assert!(stopped.stdout.contains("1 deployed, 1 skipped"), "{}", stopped.stdout);

    alarm("333333333333", "errors-unicorn", "OK");
    project.replace("src/index.js", "it smiles", "it says hello");
    deploy().exits(0);
    let sent = bed.actions("CreateChangeSet");
    let triggers = sent.iter().filter(|call| {
        let arn = call["RollbackConfiguration.RollbackTriggers.member.1.Arn"].as_str().unwrap_or_default();
        arn.starts_with("arn:aws:cloudwatch:eu-west-1:") && arn.contains(":alarm:errors-")
    });
    assert_eq!(triggers.count(), sent.len(), "{sent:?}");
    assert!(sent.iter().all(|call| call["RollbackConfiguration.MonitoringTimeInMinutes"] == "0"), "{sent:?}");
    let policies = bed.actions("SetStackPolicy");
    let policy = r#"{"Statement":[{"Effect":"Allow","Action":"Update:*","Principal":"*","Resource":"*"}]}"#;
    assert!(policies.iter().all(|call| call["StackPolicyBody"] == policy), "{policies:?}");
    assert!(policies.len() >= 3 && bed.actions("UpdateTerminationProtection").len() == 2);
}
