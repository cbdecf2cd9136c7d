//! What is wrong with the surroundings is told before anything is changed.

use crate::bed::{Bed, Project, command, snapshot, tenantry};

/// Safety rule 1: the account behind a role is compared before anything else.
#[test]
fn a_wrong_account_behind_a_role() {
    let (bed, project) = (Bed::with(&["--misroute", "333333333333=222222222222"]), Project::hello());
    let run = tenantry(&bed, &project, &["deploy"]).exits(1);
    snapshot("wrong-account", &run.all());
    bed.assert_untouched();
    assert_eq!(bed.actions("DescribeStacks").len(), 0);
}

#[test]
fn a_missing_role() {
    let (bed, project) = (Bed::start(), Project::hello());
    project.replace("tenants.yaml", "333333333333", "555555555555");
    let run = tenantry(&bed, &project, &["deploy"]).exits(1);
    snapshot("missing-role", &run.all());
    bed.assert_untouched();
}

#[test]
fn a_wrong_external_id() {
    let (bed, project) = (Bed::start(), Project::hello());
    project.replace("tenants.yaml", "external-id-of-gnome", "another-external-id");
    let run = tenantry(&bed, &project, &["deploy"]).exits(1);
    assert!(!run.stderr.contains("another-external-id"), "{}", run.stderr);
    snapshot("wrong-external-id", &run.stdout);
    bed.assert_untouched();
}

#[test]
fn a_missing_bucket() {
    let (bed, project) = (Bed::start(), Project::hello());
    project.replace("tenantry.yaml", "tenantry-artifacts-111111111111", "no-such-bucket-111111111111");
    let run = tenantry(&bed, &project, &["deploy"]).exits(2);
    snapshot("missing-bucket", &run.all());
    bed.assert_untouched();
}

#[test]
fn a_key_that_the_bucket_does_not_want() {
    let (bed, project) = (Bed::start(), Project::hello());
    project.replace(
        "tenantry.yaml",
        "key/00000000-1111-2222-3333-444444444444",
        "key/99999999-1111-2222-3333-444444444444",
    );
    let run = tenantry(&bed, &project, &["deploy"]).exits(2);
    snapshot("wrong-key-denied", &run.stderr);
    bed.assert_untouched();
}

/// Somebody else wrote the object, under another key: the answer is checked, not trusted.
#[test]
fn an_object_under_another_key() {
    let (bed, project) = (Bed::start(), Project::hello());
    let release = tenantry(&bed, &project, &["package", "--output", "json"]).exits(0).json();
    let key = release["artifacts"]["code"]["key"].as_str().unwrap();
    let rewrite = format!(
        "s3 = client('s3'); at = dict(Bucket='{}', Key='{key}'); s3.delete_bucket_policy(Bucket=at['Bucket'])\n\
         s3.put_object(**at, Body=s3.get_object(**at)['Body'].read(), ServerSideEncryption='AES256')",
        bed.fact("bucket")
    );
    bed.boto3("111111111111", &rewrite);
    bed.forget();
    let run = tenantry(&bed, &project, &["deploy"]).exits(2);
    snapshot("wrong-key-found", &run.stderr);
    bed.assert_untouched();
}

/// Somebody else wrote other bytes, under the right key and without a checksum: the name alone is not believed.
#[test]
fn an_object_with_another_content() {
    let (bed, project) = (Bed::start(), Project::hello());
    let release = tenantry(&bed, &project, &["package", "--output", "json"]).exits(0).json();
    let key = release["artifacts"]["code"]["key"].as_str().unwrap();
    let rewrite = format!(
        "from botocore.config import Config\n\
         s3 = boto3.client('s3', endpoint_url='{}', region_name='eu-west-1', aws_access_key_id='111111111111', \
         aws_secret_access_key='root', config=Config(request_checksum_calculation='when_required'))\n\
         s3.put_object(Bucket='{}', Key='{key}', Body=b'evil', ServerSideEncryption='aws:kms', SSEKMSKeyId='{}')",
        bed.fact("endpoint"),
        bed.fact("bucket"),
        bed.fact("kms_key"),
    );
    bed.boto3("111111111111", &rewrite);
    bed.forget();
    let run = tenantry(&bed, &project, &["deploy"]).exits(2);
    snapshot("other-content", &run.stderr);
    bed.assert_untouched();
}

#[test]
fn no_credentials_and_wrong_credentials() {
    let (bed, project) = (Bed::start(), Project::hello());
    let mut without = command(&project, Some(&bed), &["deploy"]);
    without.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
    let output = without.output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    snapshot("no-credentials", &String::from_utf8(output.stderr).unwrap());

    let mut wrong = command(&project, Some(&bed), &["deploy"]);
    wrong.env("AWS_SECRET_ACCESS_KEY", "wrong");
    let output = wrong.output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    snapshot("wrong-credentials", &String::from_utf8(output.stderr).unwrap());
    bed.assert_untouched();
}

#[test]
fn a_template_with_an_unknown_parameter_and_a_misspelt_key_are_found_before_any_call() {
    let (bed, project) = (Bed::start(), Project::hello());
    project.replace("tenantry.yaml", "  S3Key: ", "  S3Kee: ");
    snapshot("unknown-parameter", &tenantry(&bed, &project, &["deploy"]).exits(2).all());
    project.replace("tenantry.yaml", "  S3Kee: ", "  S3Key: ");
    project.replace("tenantry.yaml", "max-concurrency", "max-concurency");
    snapshot("misspelt-key", &tenantry(&bed, &project, &["deploy"]).exits(2).all());
    assert_eq!(
        bed.requests().iter().filter(|request| request["service"] == "sts" && request["status"] == 200).count(),
        0
    );
    bed.assert_untouched();
}

#[test]
fn destroying_has_to_be_confirmed() {
    let (bed, project) = (Bed::start(), Project::hello());
    snapshot("destroy-unconfirmed", &tenantry(&bed, &project, &["destroy", "--stage", "dev"]).exits(3).stderr);
    snapshot(
        "destroy-misconfirmed",
        &tenantry(&bed, &project, &["destroy", "--stage", "dev", "--confirm", "prod"]).exits(4).stderr,
    );
    bed.assert_untouched();
}
