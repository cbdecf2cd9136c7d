"""POST /images hands out an upload address; GET /images/{id} reads labels."""

import json
import os
import uuid

import boto3

s3 = boto3.client("s3")
table = boto3.resource("dynamodb").Table(os.environ["LABELS_TABLE"])


def handle(event, _context):
    if event["httpMethod"] == "POST":
        return create()
    return read(event["pathParameters"]["id"])


def create():
    """A new image's id, and an address that takes one upload for five minutes."""
    image = uuid.uuid4().hex
    url = s3.generate_presigned_url(
        "put_object",
        Params={"Bucket": os.environ["IMAGES_BUCKET"], "Key": f"images/{image}"},
        ExpiresIn=300,
    )
    return answer(201, {"id": image, "upload": url})


def read(image):
    """The labels of an image, or 404 while there are none."""
    item = table.get_item(Key={"image": f"images/{image}"}).get("Item")
    if item is None:
        return answer(404, {"message": "no labels for this image yet"})
    return answer(200, {"id": image, "labels": item["labels"]})


def answer(status, body):
    return {
        "statusCode": status,
        "headers": {"Content-Type": "application/json"},
        "body": json.dumps(body),
    }
