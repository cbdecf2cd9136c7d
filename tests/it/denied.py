"""Calls that must be denied, each beside one that must not. `client` and `facts` are there already."""

import boto3
from botocore.exceptions import ClientError

BUCKET, TOOLING, SANDBOX, UNICORN = "tenantry-111111111111-eu-west-1", "111111111111", "222222222222", "333333333333"
KEY = client("kms").list_keys()["Keys"][0]["KeyArn"]
ENCRYPTED = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": KEY}
SHARED = f"CrossAccountPipeline/shared/SampleApplication"


def of(service, keys):
    return boto3.client(service, endpoint_url=facts["endpoint"], region_name="eu-west-1", **keys)


def user(name):
    return {
        "aws_access_key_id": facts[name]["access_key_id"],
        "aws_secret_access_key": facts[name]["secret_access_key"],
    }


def root(account):
    return {"aws_access_key_id": account, "aws_secret_access_key": "root"}


def session(keys, role, **more):
    found = of("sts", keys).assume_role(RoleArn=role, RoleSessionName="tenantry-test", **more)["Credentials"]
    return {
        "aws_access_key_id": found["AccessKeyId"],
        "aws_secret_access_key": found["SecretAccessKey"],
        "aws_session_token": found["SessionToken"],
    }


def allowed(what, call):
    try:
        call()
        print(f"{what}: as it should be")
    except ClientError as error:
        print(f"{what}: DENIED: {error}")


def denied(what, call):
    try:
        call()
        print(f"{what}: ALLOWED")
    except ClientError as error:
        denial = "AccessDenied" in str(error) or "Access Denied" in str(error) or "403" in str(error)
        print(f"{what}: {'as it should be' if denial else error}")


def role_of(account, name, path="/", policy=None):
    """A role that its own account has made, with all rights, or with a copy of another role's."""
    iam = of("iam", root(account))
    trust = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": f"arn:aws:iam::{account}:root"}}
    everything = {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}
    document = {"Version": "2012-10-17", "Statement": [trust]}
    arn = iam.create_role(RoleName=name, Path=path, AssumeRolePolicyDocument=json.dumps(document))["Role"]["Arn"]
    iam.put_role_policy(RoleName=name, PolicyName="all", PolicyDocument=json.dumps(policy or everything))
    return session(root(account), arn)


releaser = session(user("alice"), f"arn:aws:iam::{TOOLING}:role/tenantry/release/TenantryReleaser")
approver = session(user("bob"), f"arn:aws:iam::{TOOLING}:role/tenantry/approve/TenantryApprover")
access = f"arn:aws:iam::{SANDBOX}:role/CodePipelineCrossAccountRole"
tagged = lambda name: [{"Key": "TenantID", "Value": name}]
tenant = session(releaser, access, Tags=tagged("sandbox"), SourceIdentity="alice")
objects = of("s3", root(TOOLING)).list_objects_v2(Bucket=BUCKET)["Contents"]
template = next(one["Key"] for one in objects if one["Key"].startswith(f"{SHARED}/templates/"))
approval = next(one["Key"] for one in objects if "/approvals/" in one["Key"] and "/answers/" not in one["Key"])

# Who enters a tenant, and how.
enter = lambda keys, role=access, **more: lambda: session(keys, role, **more)
allowed("a release enters", enter(releaser, Tags=tagged("sandbox")))
denied("a session with another tenant's id", enter(releaser, Tags=tagged("unicorn")))
denied("a session without a tenant's id", enter(releaser))
denied("a session with a further tag", enter(releaser, Tags=tagged("sandbox") + [{"Key": "Admin", "Value": "yes"}]))
denied("an approver enters", enter(approver, Tags=tagged("sandbox")))
denied("somebody without a role enters", enter(user("alice"), Tags=tagged("sandbox")))
denied(
    "an untrusted role of the tooling account", enter(role_of(TOOLING, "TenantryReleaser2"), Tags=tagged("sandbox"))
)
denied(
    "a role of that name outside", enter(role_of("666666666666", "X", "/tenantry/release/"), Tags=tagged("sandbox"))
)
denied(
    "the role that CloudFormation has",
    enter(releaser, access.replace("CodePipelineCrossAccountRole", "CloudFormationDeploymentRole")),
)

# What a tenant reads.
read = lambda keys, key: lambda: of("s3", keys).get_object(Bucket=BUCKET, Key=key)["Body"].read()
write = lambda keys, key, **more: lambda: of("s3", keys).put_object(Bucket=BUCKET, Key=key, Body=b"x", **more)
for account in (SANDBOX, UNICORN):
    write(releaser, f"CrossAccountPipeline/{account}/x.zip", IfNoneMatch="*", **ENCRYPTED)()
allowed("a tenant reads what all share", read(tenant, template))
allowed("a tenant reads its own", read(tenant, f"CrossAccountPipeline/{SANDBOX}/x.zip"))
denied("a tenant reads another's", read(tenant, f"CrossAccountPipeline/{UNICORN}/x.zip"))
denied("a tenant reads a plan", read(tenant, next(one["Key"] for one in objects if "/plans/" in one["Key"])))
denied("a tenant writes", write(tenant, f"{SHARED}/x.zip", **ENCRYPTED))
self_tagged = role_of(SANDBOX, "Administrator")
of("iam", root(SANDBOX)).tag_role(RoleName="CodePipelineCrossAccountRole", Tags=tagged("unicorn"))
denied(
    "a role that its own administrator has tagged with another's id",
    read(session(releaser, access, Tags=tagged("sandbox")), f"CrossAccountPipeline/{UNICORN}/x.zip"),
)
denied("an administrator of a tenant reads", read(self_tagged, f"CrossAccountPipeline/{UNICORN}/x.zip"))
denied("another role of a tenant's account reads", read(role_of(SANDBOX, "Other"), template))
denied("a role of that name, of no tenant", read(role_of("555555555555", "CodePipelineCrossAccountRole"), template))
denied("a role of that name, outside", read(role_of("666666666666", "CodePipelineCrossAccountRole"), template))

# What is written, and by whom.
denied("by KMS, without a key", write(releaser, f"{SHARED}/y.zip", ServerSideEncryption="aws:kms", IfNoneMatch="*"))
denied("with S3's own encryption", write(releaser, f"{SHARED}/y.zip", ServerSideEncryption="AES256", IfNoneMatch="*"))
other_key = of("kms", root(TOOLING)).create_key()["KeyMetadata"]["Arn"]
other = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": other_key}
denied("with another key", write(releaser, f"{SHARED}/y.zip", IfNoneMatch="*", **other))
allowed("with ours, once", write(releaser, f"{SHARED}/y.zip", IfNoneMatch="*", **ENCRYPTED))
denied("an artifact is written over", write(releaser, f"{SHARED}/y.zip", **ENCRYPTED))
forged = approval.replace("approved-", "approved-forged-")
denied("a release approves", write(releaser, forged, IfNoneMatch="*", **ENCRYPTED))
denied("an administrator approves", write(role_of(TOOLING, "Admin"), forged, IfNoneMatch="*", **ENCRYPTED))
denied("an approval that could be overwritten", write(approver, forged, **ENCRYPTED))
allowed("an approver approves", write(approver, forged, IfNoneMatch="*", **ENCRYPTED))
denied("an approver writes a release", write(approver, "tenantry/SampleApplication/releases/x.json", **ENCRYPTED))
denied("a release forgets an approval", lambda: of("s3", releaser).delete_object(Bucket=BUCKET, Key=approval))

# What a release does in a tenant's account.
stacks = of("cloudformation", tenant)
url = lambda bucket, key: f"{facts['endpoint']}/{bucket}/{key}"
deployment = f"arn:aws:iam::{SANDBOX}:role/CloudFormationDeploymentRole"


def change_set(stack="SampleApplication-x", name="tenantry-x", bucket=BUCKET, key=template, role=deployment):
    wanted = {"RoleARN": role} if role else {}
    parameters = [{"ParameterKey": key, "ParameterValue": "x"} for key in ("S3Bucket", "S3Key", "ApplicationName")]
    return lambda: stacks.create_change_set(
        StackName=stack,
        ChangeSetName=name,
        ChangeSetType="CREATE",
        TemplateURL=url(bucket, key),
        Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
        Parameters=parameters,
        **wanted,
    )


of("s3", root(SANDBOX)).create_bucket(Bucket="foreign", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
of("s3", root(SANDBOX)).put_object(Bucket="foreign", Key="x.yaml", Body=b"Resources: {}")
allowed("a change set of ours", change_set())
denied("a change set of another stack", change_set(stack="tenantry-tenant"))
denied("a change set of another name", change_set(name="mine"))
denied("a template of another bucket", change_set(bucket="foreign", key="x.yaml"))
denied("a change set without CloudFormation's role", change_set(role=None))
denied(
    "a stack without a change set",
    lambda: stacks.create_stack(StackName="SampleApplication-y", TemplateBody="Resources: {}"),
)
denied("the deletion of its own roles", lambda: stacks.delete_stack(StackName="tenantry-tenant"))

# What CloudFormation's role does for itself.
policy = of("iam", root(SANDBOX)).get_role_policy(RoleName="CloudFormationDeploymentRole", PolicyName="tenantry")
iam = of("iam", role_of(SANDBOX, "Deployment", policy=policy["PolicyDocument"]))
admins = "arn:aws:iam::aws:policy/AdministratorAccess"
boundary = f"arn:aws:iam::{SANDBOX}:policy/tenantry/TenantryBoundary"
trust = json.dumps({"Version": "2012-10-17", "Statement": []})
make = lambda name, **more: lambda: iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust, **more)
allowed("a role of the application", make("SampleApplication-x", PermissionsBoundary=boundary))
denied("a role without the boundary", make("SampleApplication-y"))
denied("a role with another boundary", make("SampleApplication-y", PermissionsBoundary=admins))
denied("a role of another name", make("Other2", PermissionsBoundary=boundary))
denied("the boundary is taken off", lambda: iam.delete_role_permissions_boundary(RoleName="SampleApplication-x"))
denied(
    "it makes itself an administrator",
    lambda: iam.attach_role_policy(RoleName="CloudFormationDeploymentRole", PolicyArn=admins),
)
denied(
    "it lets others in",
    lambda: iam.update_assume_role_policy(RoleName="CodePipelineCrossAccountRole", PolicyDocument=trust),
)
denied("it makes a user", lambda: iam.create_user(UserName="x"))
