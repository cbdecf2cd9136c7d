"""Makes MiniStack know what isolation by attributes rests on: the leading keys of a request to DynamoDB, and tags of
resources that only a resource's own policy asks for.

`enforce.py` imports it. Like that, it works through private functions of the pinned version.
"""

import json
import re

import ministack.core.iam_actions as actions
import ministack.core.iam_evaluator as iam_eval
import ministack.services.dynamodb as dynamodb

known_context, names_key = actions.dynamodb_service_context, iam_eval._names_condition_key


def text(value):
    """What a typed value of DynamoDB says, as {"S": "x"} says x."""
    return str(next(iter(value.values()))) if isinstance(value, dict) and len(value) == 1 else None


def partition_key(table, index):
    for one in table.get("GlobalSecondaryIndexes") or []:
        if one.get("IndexName") == index:
            return next(key["AttributeName"] for key in one["KeySchema"] if key["KeyType"] == "HASH")
    return table["pk_name"]


def keys_of(name, index, items):
    """The partition keys of items or keys of a table."""
    table = dynamodb._tables.get((name or "").rsplit("/", 1)[-1])
    if table:
        for item in items:
            if isinstance(item, dict):
                yield text(item.get(partition_key(table, index)))


def asked_for(body):
    """The items that a query is about, as far as its condition says."""
    names, values = body.get("ExpressionAttributeNames") or {}, body.get("ExpressionAttributeValues") or {}
    equals = re.findall(r"([#\w.]+)\s*=\s*(:\w+)", body.get("KeyConditionExpression") or "")
    yield {names.get(left, left): values.get(right) for left, right in equals}
    yield {name: (one.get("AttributeValueList") or [None])[0] for name, one in (body.get("KeyConditions") or {}).items()}


def leading_keys(body):
    name, index = body.get("TableName"), body.get("IndexName")
    yield from keys_of(name, index, [body.get("Key"), body.get("Item"), *asked_for(body)])
    for table, wanted in (body.get("RequestItems") or {}).items():
        if isinstance(wanted, dict):
            yield from keys_of(table, None, wanted.get("Keys", []))
        else:
            written = [one for request in wanted for one in request.values()]
            yield from keys_of(table, None, [one.get("Item") or one.get("Key") for one in written])
    for request in body.get("TransactItems") or []:
        for one in request.values():
            yield from keys_of(one.get("TableName"), None, [one.get("Item") or one.get("Key")])


def context(body):
    found = known_context(body)
    try:
        keys = [key for key in leading_keys(json.loads(body or b"{}")) if key is not None]
    except ValueError:
        return found
    return {**found, "dynamodb:LeadingKeys": keys} if keys else found


actions.dynamodb_service_context = context
iam_eval._names_condition_key = lambda policies, prefix: prefix == "aws:resourcetag/" or names_key(policies, prefix)
