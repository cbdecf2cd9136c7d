"""Tells when a shipment arrives. Whose data may be read is decided by IAM, not here."""

import json
import os
import re

import boto3
from botocore.exceptions import ClientError

# Ids stand in paths of indices and folders, where other characters would mean something.
TENANT = re.compile(r"[a-z0-9]{1,64}")


def session_of(tenant):
    """Takes the access role for one tenant: the session is tagged with its id, and reaches nothing else."""
    sts = boto3.client("sts")
    taken = sts.assume_role(
        RoleArn=os.environ["ACCESS_ROLE"],
        RoleSessionName=tenant,
        DurationSeconds=900,
        Tags=[{"Key": "TenantID", "Value": tenant}],
    )
    keys = taken["Credentials"]
    return boto3.Session(keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"])


def answer(status, **body):
    return {"statusCode": status, "body": json.dumps(body)}


def handler(event, context):
    """GET /{owner}/shipments/{shipment}, with the claims of a token that the API has verified."""
    tenant = event["requestContext"]["authorizer"]["claims"]["TenantID"]
    if not TENANT.fullmatch(tenant):
        return answer(401, error="no tenant")
    # What the path says is the caller's wish. Nothing here compares it with the tenant: that is what policies are for.
    owner, shipment = event["pathParameters"]["owner"], event["pathParameters"]["shipment"]
    session = session_of(tenant)
    try:
        found = session.client("dynamodb").get_item(
            TableName=os.environ["TABLE"], Key={"TenantID": {"S": owner}, "ShipmentID": {"S": shipment}}
        )
        if "Item" not in found:
            return answer(404, error="no such shipment")
        label = session.client("s3").get_object(Bucket=os.environ["BUCKET"], Key=f"{owner}/{shipment}.txt")
        return answer(200, eta=found["Item"]["ETA"]["S"], label=label["Body"].read().decode())
    except ClientError as error:
        if error.response["Error"]["Code"] in ("AccessDenied", "AccessDeniedException"):
            return answer(403, error="not yours")
        raise
