//! Looking at a fleet that others touch too, and bringing back what is stuck.

use crate::bed::{Bed, Project, tenantry};

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
}
