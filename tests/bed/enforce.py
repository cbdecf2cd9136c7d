"""Makes MiniStack judge requests as IAM does where the templates of `infra/` rely on it, and keep what they say.

`bed.py --empty` imports it before anything is served. It works through private functions of the pinned version;
tests/bed/README.md says what it closes and what stays open.
"""

import contextvars
import dataclasses
import json
import re
from urllib.parse import urlparse

import attributes  # noqa: F401
import ministack.app as gateway
import ministack.core.iam_actions as actions
import ministack.core.iam_evaluator as iam_eval
import ministack.services.cloudformation.handlers as cfn
import ministack.services.cloudformation.helpers as cfn_helpers
import ministack.services.cloudformation.provisioners as prov
import ministack.services.iam as iam
import ministack.services.kms as kms
import ministack.services.s3 as s3
import ministack.services.sts as sts
from ministack.core.responses import get_account_id, get_region, request_scope

ORG = "o-exampleorg1"
# Who is in it, and where; every other account is outside.
PATHS = {
    "111111111111": f"{ORG}/r-abcd/",
    "222222222222": f"{ORG}/r-abcd/ou-abcd-tenants/",
    "333333333333": f"{ORG}/r-abcd/ou-abcd-tenants/",
    "444444444444": f"{ORG}/r-abcd/ou-abcd-tenants/",
    "555555555555": f"{ORG}/r-abcd/ou-abcd-others/",
}
request = contextvars.ContextVar("request", default={})  # parameters of the STS call being judged
denied_as = contextvars.ContextVar("denied_as", default=None)  # the action that AWS would name in the denial


# --- 1. who calls: the role's ARN, also in another account -----------------------------------------
def stored_role(account, name):
    return iam._roles.get_scoped(account, None, name)


def principal(ctx):
    arn = ctx.principal_arn
    if arn.endswith(":root"):  # what _foreign_bucket_allows puts for every caller
        pinned = iam_eval._request_caller_arn.get()
        if pinned and f":{ctx.principal_account}:" in pinned:
            arn = pinned
    found = re.fullmatch(r"arn:aws:sts::(\d{12}):assumed-role/([^/]+)/.+", arn)
    role = found and stored_role(*found.groups())
    return role["Arn"] if role else arn


def owner(ctx):
    if ctx.resource_arn.startswith("arn:aws:s3:::"):
        return s3._bucket_owner_account(ctx.resource_arn[13:].split("/")[0]) or ctx.principal_account
    return iam_eval._account_from_arn(ctx.resource_arn) or ctx.principal_account


# --- 2. condition keys and policy variables ---------------------------------------------------------
resolve_own = iam_eval._resolve_condition_key


def resolve(key, ctx):
    k = key.lower()
    if k == "aws:principalarn":
        return principal(ctx)
    if k == "aws:principalorgid":
        return ORG if ctx.principal_account in PATHS else None
    if k == "aws:principalorgpaths":
        return [PATHS[ctx.principal_account]] if ctx.principal_account in PATHS else None
    if k in ("aws:resourceaccount", "s3:resourceaccount"):
        return owner(ctx)
    if k == "aws:resourceorgid":
        return ORG if owner(ctx) in PATHS else None
    if k == "aws:resourceorgpaths":
        return [PATHS[owner(ctx)]] if owner(ctx) in PATHS else None
    return resolve_own(key, ctx)


iam_eval._resolve_condition_key = resolve

VARIABLE = re.compile(r"\$\{([^}]+)\}")
LITERAL = {"*": "\ue010", "?": "\ue011", "$": "\ue012"}


def expand(text, ctx):
    def value(found):
        name, _, default = found.group(1).partition(",")
        if name in LITERAL:
            return name  # approximation: ${*} matches as a wildcard here
        got = resolve(name.strip(), ctx)
        got = got if isinstance(got, str) else default.strip().strip("'") or None
        return "\ue0ff" if got is None else got  # a variable without a value matches nothing

    return VARIABLE.sub(value, text) if isinstance(text, str) and "${" in text else text


first_own, met_own = iam_eval._first_match, iam_eval._conditions_met


def first(ctx, stmts, effect):
    return first_own(
        ctx,
        [
            dataclasses.replace(
                s,
                resources=[expand(r, ctx) for r in s.resources],
                not_resources=[expand(r, ctx) for r in s.not_resources],
            )
            for s in stmts
        ],
        effect,
    )


def met(conditions, ctx):
    if not isinstance(conditions, dict):
        return met_own(conditions, ctx)
    many = lambda v: [expand(x, ctx) for x in v] if isinstance(v, list) else expand(v, ctx)
    return met_own(
        {
            op: {k: many(v) for k, v in block.items()} if isinstance(block, dict) else block
            for op, block in conditions.items()
        },
        ctx,
    )


iam_eval._first_match, iam_eval._conditions_met = first, met

# principals: the path counts, and another account's role can be named
matches_own = iam_eval._principal_matches


def matches(wanted, caller):
    found = re.fullmatch(r"arn:aws:sts::(\d{12}):assumed-role/([^/]+)/.+", caller)
    role = found and stored_role(*found.groups())
    if role and isinstance(wanted, dict):
        named = wanted.get("AWS", [])
        named = [named] if isinstance(named, str) else named
        wanted = {**wanted, "AWS": [n for n in named if ":role/" not in n or n == role["Arn"]]}
    return matches_own(wanted, caller)


iam_eval._principal_matches = matches
resource_own = iam_eval.evaluate_resource_policy


def resource_policy(doc, ctx, *rest, **named):
    pinned = iam_eval._request_caller_arn.get()
    if ctx.principal_arn.endswith(":root") and pinned and f":{ctx.principal_account}:" in pinned:
        ctx = dataclasses.replace(ctx, principal_arn=pinned)
    return resource_own(doc, ctx, *rest, **named)


iam_eval.evaluate_resource_policy = resource_policy

# --- 3. resource ARNs: IAM with paths, change sets named by their ARN ------------------------------
arn_own = actions.extract_resource_arn


def resource_arn(service, method, path, headers, body, query, region, account):
    get = lambda name: actions._query_param(query, name)
    if service == "iam":
        action = get("Action")
        if get("RoleName"):
            role = iam._roles.get(get("RoleName"))
            return (
                role["Arn"]
                if role and action != "CreateRole"
                else f"arn:aws:iam::{account}:role{get('Path') or '/'}{get('RoleName')}"
            )
        if action == "CreatePolicy":
            return f"arn:aws:iam::{account}:policy{get('Path') or '/'}{get('PolicyName')}"
    if service == "cloudformation" and not get("StackName") and get("ChangeSetName").startswith("arn:"):
        from ministack.services.cloudformation.changesets import _find_change_set

        found = _find_change_set(get("ChangeSetName"))[1]
        if found:
            return found["StackId"]
    if (
        service == "kms"
        and actions._safe_json_field(body, "KeyId").startswith(("alias/", "arn:"))
        and ":key/" not in actions._safe_json_field(body, "KeyId")
    ):
        found = kms._resolve_key(actions._safe_json_field(body, "KeyId"))
        if found:
            return found["Arn"]
    return arn_own(service, method, path, headers, body, query, region, account)


actions.extract_resource_arn = resource_arn


# --- 4. keys of the request -------------------------------------------------------------------------
def virtual_hosted(url):
    # the emulator reads only path style of its own endpoint: policies see the form that AWS wants
    found = re.match(r"https?://(?:127\.0\.0\.1|localhost)(?::\d+)?/([^/]+)/(.+)", url or "")
    return f"https://{found.group(1)}.s3.{get_region()}.amazonaws.com/{found.group(2)}" if found else url


tags_own = actions.request_tag_context


def context(service, action, body, params):
    found = tags_own(service, action, body, params)
    get = lambda name: actions._query_param(params, name)
    put = lambda key, value: found.update({key: value}) if value else None
    if service == "cloudformation":
        name = get("ChangeSetName")
        put("cloudformation:ChangeSetName", name.split("/")[1] if name.startswith("arn:") else name)
        put("cloudformation:TemplateUrl", virtual_hosted(get("TemplateURL")))
        put("cloudformation:RoleArn", get("RoleARN"))
        put("cloudformation:StackPolicyUrl", get("StackPolicyURL"))
        put(
            "cloudformation:ResourceTypes",
            [v[0] if isinstance(v, list) else v for k, v in params.items() if k.startswith("ResourceTypes.member.")],
        )
    elif service == "iam":
        role = iam._roles.get(get("RoleName")) or {}
        put("iam:PermissionsBoundary", get("PermissionsBoundary") or role.get("PermissionsBoundary"))
        put("iam:PolicyARN", get("PolicyArn"))
    elif service == "kms":
        data = json.loads(body) if body[:1] == b"{" else {}
        put("kms:CallerAccount", get_account_id())
        for key, value in (data.get("EncryptionContext") or {}).items():
            put(f"kms:EncryptionContext:{key}", value)
        put("kms:EncryptionContextKeys", list(data.get("EncryptionContext") or {}))
    elif service == "sts":
        request.set(
            {"SourceIdentity": get("SourceIdentity"), "Tags": any(k.startswith("Tags.member") for k in params)}
        )
        put("sts:SourceIdentity", get("SourceIdentity"))
        put("sts:ExternalId", get("ExternalId"))
        put("sts:RoleSessionName", get("RoleSessionName"))
    return found


actions.request_tag_context = context
object_own = actions._s3_object_context


def object_context(action, query, path, headers):
    found = object_own(action, query, path, headers)
    if action == "s3:PutObject":
        for name in ("if-none-match", "if-match", "x-amz-content-sha256", "x-amz-storage-class"):
            if headers.get(name):
                found[f"s3:{name}"] = headers[name]
        found["s3:ObjectCreationOperation"] = "false" if "uploads" in query or "partNumber" in query else "true"
    elif query.get("versionId"):
        found["s3:VersionId"] = query["versionId"][0]
    return found


actions._s3_object_context = object_context
gateway.pin_request_origin = lambda ip, tls: iam_eval.pin_request_origin(
    ip, True
)  # the endpoint stands for an HTTPS one

# --- 5. STS: path of the role, source identity, TagSession and SetSourceIdentity ---------------------
trust_own = iam_eval.evaluate_trust_policy


def trust(doc, caller, ctx=None):
    if ctx is not None and ctx.action in ("sts:AssumeRole", "sts:TagSession"):
        _, _, account, resource = ctx.resource_arn.split(":", 5)[2:]
        role = stored_role(account, resource.rsplit("/", 1)[-1])
        if not role or role["Arn"] != ctx.resource_arn:
            return False
        told = request.get().get("SourceIdentity") or ctx.principal_keys.get("aws:sourceidentity")
        if told:
            ctx = dataclasses.replace(ctx, service_context={**ctx.service_context, "sts:sourceidentity": told})
        if ctx.action == "sts:AssumeRole" and request.get().get("SourceIdentity"):
            named = trust_own(doc, caller, dataclasses.replace(ctx, action="sts:SetSourceIdentity"))
            if trust_own(doc, caller, ctx) and not named:
                denied_as.set("sts:SetSourceIdentity")
                return False
    return trust_own(doc, caller, ctx)


iam_eval.evaluate_trust_policy = trust
error_own = sts._error


def error(status, code, message, **more):
    told = denied_as.get()
    return error_own(status, code, message.replace("sts:AssumeRole", told) if told else message, **more)


sts._error = error
response_own = actions.access_denied_response


def denied_response(service, action, *rest, **more):
    return response_own(service, denied_as.get() or action, *rest, **more)


actions.access_denied_response = denied_response
register_own = sts.register_session


def register(key, session):
    if request.get().get("SourceIdentity"):
        session["SourceIdentity"] = request.get()["SourceIdentity"]
    register_own(key, session)


sts.register_session = register
keys_own = iam_eval._principal_keys


def principal_keys(credential):
    found = keys_own(credential)
    told = (sts._sessions.get(credential.access_key_id) or {}).get("SourceIdentity")
    return {**found, "aws:sourceidentity": told} if told else found


iam_eval._principal_keys = sts._principal_keys = principal_keys

# --- 6. what a call needs besides itself: TagSession, KMS behind S3 ----------------------------------
enforce_own = iam_eval.enforce


def sse_key(bucket, key, action, context):
    """The KMS key of an object that is read, or of a write."""
    holder = s3._bucket_owner_account(bucket)
    if not holder:
        return None
    with request_scope(holder, get_region()):
        if action == "s3:PutObject":
            wanted = {k.lower(): v for k, v in context.items()}
            if wanted.get("s3:x-amz-server-side-encryption") == "AES256":
                return None
            return wanted.get("s3:x-amz-server-side-encryption-aws-kms-key-id") or s3._bucket_default_sse_headers(
                bucket
            ).get("x-amz-server-side-encryption-aws-kms-key-id")
        found = (s3._buckets.get(bucket) or {}).get("objects", {}).get(key) or {}
        return found.get("preserved_headers", {}).get("x-amz-server-side-encryption-aws-kms-key-id")


def kms_denied(access_key, action, key, object_arn, region):
    caller = iam_eval.resolve_principal(access_key, get_account_id())
    if isinstance(caller, iam_eval.AuthError) or caller.policies is None:
        return None
    account = iam_eval._account_from_arn(key)
    with request_scope(account, region):
        record = kms._resolve_key(key)
    ctx = iam_eval.EvalContext(
        principal_arn=caller.arn,
        principal_type=caller.type,
        principal_account=caller.account,
        action=action,
        resource_arn=key,
        region=region,
        principal_keys=caller.keys,
        service_context={
            "kms:viaservice": f"s3.{region}.amazonaws.com",
            "kms:calleraccount": caller.account,
            "kms:encryptioncontext:aws:s3:arn": object_arn,
            "kms:encryptioncontextkeys": ["aws:s3:arn"],
            **{f"aws:resourcetag/{tag['TagKey'].lower()}": tag["TagValue"] for tag in (record or {}).get("Tags") or []},
        },
    )
    result = iam_eval.combine_resource_policy(
        iam_eval.evaluate(ctx, caller.policies, *caller.limits),
        ctx,
        (record or {}).get("Policy"),
        account,
        required=True,
        limits=caller.limits,
    )
    if result.decision == "Allow":
        return None
    denied_as.set(action)
    return dataclasses.replace(result, principal_arn=caller.arn)


def enforce(access_key, action, service, region, resource_arn="*", service_context=None):
    denied = enforce_own(
        access_key, action, service, region, resource_arn=resource_arn, service_context=service_context
    )
    if denied:
        return denied
    if action == "sts:AssumeRole":
        for extra, wanted in (
            ("sts:TagSession", request.get().get("Tags")),
            ("sts:SetSourceIdentity", request.get().get("SourceIdentity")),
        ):
            denied = wanted and enforce_own(
                access_key, extra, service, region, resource_arn=resource_arn, service_context=service_context
            )
            if denied:
                return denied
    if service == "s3" and access_key and action in ("s3:PutObject", "s3:GetObject", "s3:GetObjectVersion"):
        bucket, _, key = resource_arn.removeprefix("arn:aws:s3:::").partition("/")
        kms_key = sse_key(bucket, key, action, service_context or {})
        if kms_key and kms_key.startswith("arn:"):
            return kms_denied(
                access_key,
                "kms:GenerateDataKey" if action == "s3:PutObject" else "kms:Decrypt",
                kms_key,
                resource_arn,
                region,
            )
    return None


iam_eval.enforce = enforce


# --- 7. CreateChangeSet: PassRole, the template and SSM parameters with the caller's rights ----------
def guarded(inner):
    def handler(params):
        p = lambda name: cfn_helpers._p(params, name)
        key, region = iam_eval._verified_key.get(), get_region()

        def check(action, service, arn, **context):
            denied = key and iam_eval.enforce(
                key, action, service, region, resource_arn=arn, service_context=context.get("context")
            )
            return denied and cfn_helpers._error(
                "AccessDenied",
                f"User: {denied.principal_arn} is not authorized to perform: {action} on resource: {arn}",
                403,
            )

        role = p("RoleARN")
        if role:
            stored = stored_role(get_account_id(), role.rsplit("/", 1)[-1])
            denied = check(
                "iam:PassRole", "iam", role, context={"iam:PassedToService": "cloudformation.amazonaws.com"}
            )
            if denied:
                return denied
            if (
                not stored
                or stored["Arn"] != role
                or "cloudformation.amazonaws.com" not in stored["AssumeRolePolicyDocument"]
            ):
                return cfn_helpers._error("ValidationError", f"Role {role} is invalid or cannot be assumed")
        if p("TemplateURL"):
            denied = check("s3:GetObject", "s3", "arn:aws:s3:::" + urlparse(p("TemplateURL")).path.lstrip("/"))
            if denied:
                return cfn_helpers._error("ValidationError", "S3 error: Access Denied")
        return inner(params)

    return handler


for _name in ("CreateStack", "UpdateStack", "CreateChangeSet"):
    cfn._ACTION_HANDLERS[_name] = guarded(cfn._ACTION_HANDLERS[_name])


# --- 8. what templates say and MiniStack drops -------------------------------------------------------
def xml(tag, value):
    if isinstance(value, dict):
        return f"<{tag}>" + "".join(xml(k, v) for k, v in value.items()) + f"</{tag}>"
    if isinstance(value, list):
        return "".join(xml(tag, v) for v in value)
    return f"<{tag}>{str(value).lower() if isinstance(value, bool) else value}</{tag}>"


def bucket_extras(name, props):
    enc = (props.get("BucketEncryption") or {}).get("ServerSideEncryptionConfiguration")
    if enc:
        s3._put_bucket_encryption(
            name,
            xml(
                "ServerSideEncryptionConfiguration",
                {
                    "Rule": [
                        {
                            "ApplyServerSideEncryptionByDefault": {
                                k: v for k, v in r["ServerSideEncryptionByDefault"].items()
                            },
                            "BucketKeyEnabled": r.get("BucketKeyEnabled", False),
                        }
                        for r in enc
                    ]
                },
            ).encode(),
        )
    own = (props.get("OwnershipControls") or {}).get("Rules")
    if own:
        s3._put_bucket_ownership_controls(name, xml("OwnershipControls", {"Rule": own}).encode())
    if props.get("Tags"):
        s3._put_bucket_tagging(name, xml("Tagging", {"TagSet": {"Tag": props["Tags"]}}).encode())
    rules = (props.get("LifecycleConfiguration") or {}).get("Rules")
    if rules:
        shape = lambda r: {
            "ID": r.get("Id", ""),
            "Status": r["Status"],
            "Filter": {"Prefix": r.get("Prefix", "")},
            **({"Expiration": {"Days": r["ExpirationInDays"]}} if "ExpirationInDays" in r else {}),
            **{k: r[k] for k in ("NoncurrentVersionExpiration", "AbortIncompleteMultipartUpload") if k in r},
        }
        s3._put_bucket_lifecycle(name, xml("LifecycleConfiguration", {"Rule": [shape(r) for r in rules]}).encode())


def after(kind, how, work):
    own = prov._RESOURCE_HANDLERS[kind][how]

    def run(*args, **kw):
        answer = own(*args, **kw)
        work(answer[0], args[1] if how == "create" else args[2])
        return answer

    prov._RESOURCE_HANDLERS[kind][how] = run


def boundary(name, props):
    iam._roles[name]["PermissionsBoundary"] = props.get("PermissionsBoundary") or None


for _how in ("create", "update"):
    after("AWS::IAM::Role", _how, boundary)
    after("AWS::S3::Bucket", _how, bucket_extras)


def public_policy(name, props):
    doc = props.get("PolicyDocument")
    bucket = props["Bucket"]
    if s3._public_access_blocked(get_account_id(), bucket, "BlockPublicPolicy") and s3._policy_is_public(
        json.dumps(doc)
    ):
        raise ValueError("public policies are prevented by the BlockPublicPolicy setting in S3 Block Public Access.")


for _how in ("create", "update"):
    after("AWS::S3::BucketPolicy", _how, public_policy)


# --- 9. types MiniStack does not know ----------------------------------------------------------------
def oidc_create(logical, props, stack):
    params = {
        "Url": props["Url"],
        **{f"ClientIDList.member.{i}": v for i, v in enumerate(props.get("ClientIdList", []), 1)},
    }
    status, _, body = iam._create_oidc_provider({k: [v] for k, v in params.items()})
    if status >= 400:
        raise ValueError(body.decode() if isinstance(body, bytes) else body)
    arn = f"arn:aws:iam::{get_account_id()}:oidc-provider/" + props["Url"].split("://")[1].rstrip("/")
    return arn, {"Arn": arn}


def placeholder(arn):
    def create(logical, props, stack):
        name = props.get("Name") or f"{stack}-{logical}"
        told = arn.format(region=get_region(), account=get_account_id(), name=name)
        return name, {"Arn": told, "Version": "1"}

    return {
        "create": create,
        "update": lambda physical, old, new, stack: create(
            physical, {**new, "Name": new.get("Name") or physical}, stack
        ),
        "delete": lambda physical, props: None,
    }


prov._RESOURCE_HANDLERS["AWS::IAM::OIDCProvider"] = {
    "create": oidc_create,
    "update": lambda physical, old, new, stack: (physical, {"Arn": physical}),
    "delete": lambda physical, props: iam._oidc_providers.pop(physical, None),
}
prov._RESOURCE_HANDLERS["AWS::CodePipeline::Pipeline"] = placeholder("arn:aws:codepipeline:{region}:{account}:{name}")
