"""Finds the labels of images that S3 told of, and writes them to the table."""

import json
import os
import urllib.parse

import boto3

rekognition = boto3.client("rekognition")
table = boto3.resource("dynamodb").Table(os.environ["LABELS_TABLE"])


def handle(event, _context):
    failed = []
    for message in event["Records"]:
        try:
            for bucket, key in images(json.loads(message["body"])):
                table.put_item(Item={"image": key, "labels": labels(bucket, key)})
        except Exception as error:  # the message goes back to the queue
            print(json.dumps({"message": message["messageId"], "error": str(error)}))
            failed.append({"itemIdentifier": message["messageId"]})
    return {"batchItemFailures": failed}


def images(notification):
    """The bucket and key of each object in S3's notification.

    S3 sends one with no records when the notification is set up.
    """
    for record in notification.get("Records", []):
        s3 = record["s3"]
        yield s3["bucket"]["name"], urllib.parse.unquote_plus(s3["object"]["key"])


def labels(bucket, key):
    found = rekognition.detect_labels(
        Image={"S3Object": {"Bucket": bucket, "Name": key}},
        MinConfidence=float(os.environ["MIN_CONFIDENCE"]),
    )
    return [label["Name"] for label in found["Labels"]]
