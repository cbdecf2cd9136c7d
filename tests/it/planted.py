"""Breaks the accounts of t001 to t009, each in its own way."""

ROLE = "CodePipelineCrossAccountRole"


def iam(number):
    return boto3.client(
        "iam",
        endpoint_url=client("iam").meta.endpoint_url,
        region_name="eu-west-1",
        aws_access_key_id=str(500000000000 + number),
        aws_secret_access_key="root",
    )


def delete(number):
    iam(number).delete_role_policy(RoleName=ROLE, PolicyName="tenantry")
    iam(number).delete_role(RoleName=ROLE)


def trust(number, change, role=ROLE):
    document = iam(number).get_role(RoleName=role)["Role"]["AssumeRolePolicyDocument"]
    text = json.dumps(document)
    assert change(text) != text
    iam(number).update_assume_role_policy(RoleName=role, PolicyDocument=change(text))


def without(number, sid):
    document = iam(number).get_role_policy(RoleName=ROLE, PolicyName="tenantry")["PolicyDocument"]
    kept = [statement for statement in document["Statement"] if statement["Sid"] != sid]
    assert len(kept) == len(document["Statement"]) - 1
    document["Statement"] = kept
    iam(number).put_role_policy(RoleName=ROLE, PolicyName="tenantry", PolicyDocument=json.dumps(document))


def without_action(number, sid, action):
    document = iam(number).get_role_policy(RoleName=ROLE, PolicyName="tenantry")["PolicyDocument"]
    next(statement for statement in document["Statement"] if statement["Sid"] == sid)["Action"].remove(action)
    iam(number).put_role_policy(RoleName=ROLE, PolicyName="tenantry", PolicyDocument=json.dumps(document))


delete(1)
trust(2, lambda text: text.replace("role/tenantry/release/*", "role/tenantry/another/*"))
trust(3, lambda text: text.replace('"sts:TagSession"', '"sts:GetCallerIdentity"'))
trust(4, lambda text: text.replace('"sts:SetSourceIdentity"', '"sts:GetCallerIdentity"'))
without(5, "ReadArtifacts")
without(6, "Decrypt")
without(7, "PassDeployment")
trust(8, lambda text: text.replace("cloudformation.amazonaws.com", "lambda.amazonaws.com"), "CloudFormationDeploymentRole")
without_action(9, "Follow", "cloudformation:DescribeStackEvents")
