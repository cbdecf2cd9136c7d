"""What the tracking service's code might try: each is told with what IAM says."""

import os

import boto3
from botocore.exceptions import ClientError


def handler(event, context):
    def session(tags):
        taken = boto3.client("sts").assume_role(RoleArn=os.environ["ACCESS_ROLE"], RoleSessionName="probe", Tags=tags)
        keys = taken["Credentials"]
        return boto3.Session(keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"])

    def tag(value, key="TenantID"):
        return {"Key": key, "Value": value}

    told = {}

    def tell(what, attempt):
        try:
            attempt()
            told[what] = "done"
        except ClientError as error:
            told[what] = error.response["Error"]["Code"]

    table, bucket = os.environ["TABLE"], os.environ["BUCKET"]
    key = {"TenantID": {"S": "yellow"}, "ShipmentID": {"S": "s1"}}
    foreign = {**key, "TenantID": {"S": "blue"}}
    of = lambda item: {"KeyConditionExpression": "TenantID = :t", "ExpressionAttributeValues": {":t": item["TenantID"]}}

    tell("as itself: an item", lambda: boto3.client("dynamodb").get_item(TableName=table, Key=key))
    tell("as itself: an object", lambda: boto3.client("s3").get_object(Bucket=bucket, Key="yellow/s1.txt"))
    tell("a session without a tenant", lambda: session([]))
    tell("a session of nobody", lambda: session([tag("")]))
    tell("a session with a tag more", lambda: session([tag("yellow"), tag("admin", "Role")]))

    yellow = session([tag("yellow")])
    items, objects = yellow.client("dynamodb"), yellow.client("s3")
    tell("its own item", lambda: items.get_item(TableName=table, Key=key))
    tell("its own items", lambda: items.query(TableName=table, **of(key)))
    tell("another's item", lambda: items.get_item(TableName=table, Key=foreign))
    tell("another's items", lambda: items.query(TableName=table, **of(foreign)))
    tell("both in one request", lambda: items.batch_get_item(RequestItems={table: {"Keys": [key, foreign]}}))
    tell("all items", lambda: items.scan(TableName=table))
    tell("its own item, to change it", lambda: items.put_item(TableName=table, Item=key))
    tell("its own object", lambda: objects.get_object(Bucket=bucket, Key="yellow/s1.txt"))
    tell("its own object, under another's key", lambda: objects.get_object(Bucket=bucket, Key="yellow/s2.txt"))
    tell("another's object", lambda: objects.get_object(Bucket=bucket, Key="blue/s1.txt"))
    tell("all objects", lambda: objects.list_objects_v2(Bucket=bucket))
    tell("a role of another", lambda: yellow.client("sts").assume_role(RoleArn=os.environ["ACCESS_ROLE"], RoleSessionName="again", Tags=[tag("blue")]))
    return told
