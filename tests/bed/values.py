"""What properties are before and after a change set, as AWS tells it with IncludePropertyValues."""

import copy
import hashlib
import json
import re
from itertools import zip_longest

import ministack.services.cloudformation.changesets as changesets
import ministack.services.cloudformation.engine as engine
import ministack.services.cloudformation.handlers as handlers
import ministack.services.cloudformation.helpers as helpers
import ministack.services.cloudformation.stacks as stacks

LATER, ABSENT = "{{changeSet:KNOWN_AFTER_APPLY}}", engine._NO_VALUE
# What replaces a resource and MiniStack does not know.
REPLACING = {("AWS::S3::Bucket", "BucketName"), ("AWS::DynamoDB::Table", "KeySchema")}
# What AWS compares as a whole.
DOCUMENTS = ("PolicyDocument", "AssumeRolePolicyDocument")


class Unknown(dict):
    """The attributes of a resource that is still to be made."""

    __contains__ = lambda self, name: True
    __getitem__ = lambda self, name: LATER


def tell_values():
    """Makes MiniStack tell changed properties leaf by leaf, with their values, and hide NoEcho parameters."""
    create, describe, recreation = changesets._create_change_set, changesets._describe_change_set, stacks._property_recreation
    stacks._property_recreation = lambda kind, name: "Always" if (kind, name) in REPLACING else recreation(kind, name)

    def created(params):
        answer = create(params)
        found = re.search(rb"<Id>(.*?)</Id>", answer[2])
        if found:
            note(changesets._find_change_set(found.group(1).decode())[1])
        return answer

    def described(params):
        _, change_set = changesets._find_change_set(helpers._p(params, "ChangeSetName"), helpers._p(params, "StackName"))
        if not change_set or helpers._p(params, "IncludePropertyValues").lower() != "true":
            return describe(params)
        plain = change_set["Changes"]
        full = [{"ResourceChange": {**it["ResourceChange"], **it.get("_values", {})}} for it in plain]
        change_set["Changes"] = full
        try:
            status, headers, body = describe(params)
        finally:
            change_set["Changes"] = plain
        targets = (detail["Target"] for it in full for detail in it["ResourceChange"].get("Details", ()))
        return status, headers, re.sub(rb"</Target>", lambda end: further(next(targets)) + end.group(), body)

    handlers._ACTION_HANDLERS.update(CreateChangeSet=created, DescribeChangeSet=described)
    changesets._describe_change_set = described


def further(target):
    names = ("Path", "BeforeValue", "AfterValue", "AttributeChangeType")
    return "".join(f"<{name}>{helpers._esc(target[name])}</{name}>" for name in names if name in target).encode()


def note(change_set):
    """Keeps details with values beside those without."""
    for parameter in change_set["Parameters"]:
        if change_set["_resolved_params"][parameter["ParameterKey"]]["NoEcho"]:
            parameter["ParameterValue"] = "****"
    stack, changes = handlers._resolve_stack(change_set["StackId"]), [it["ResourceChange"] for it in change_set["Changes"]]
    later = [it["LogicalResourceId"] for it in changes if it["Action"] == "Add" or it.get("Replacement") == "True"]
    made = {**stack["_resources"], **dict.fromkeys(later, {"PhysicalResourceId": LATER, "Attributes": Unknown()})}
    for it in change_set["Changes"]:
        change, name = it["ResourceChange"], it["ResourceChange"]["LogicalResourceId"]
        if change["Action"] == "Modify" and "PhysicalResourceId" in change:
            old = resolved(stack, stack, name, stack["_resources"])
            new = resolved(stack, change_set, name, made)
            raw = {"Properties": change_set["_template"]["Resources"][name].get("Properties") or {}}
            found = [(path, causes(raw, path), *values) for path, *values in leaves(("Properties",), old, new)]
            it["_values"] = {"Details": list(valued(change["Details"], found))}


def resolved(stack, source, name, resources):
    """A resource's properties, each as far as it is known; a hidden parameter stands as its digest."""
    template, params = source["_template"], source["_resolved_params"]
    known = {key: {**it, "Value": hidden(it["Value"])} if it["NoEcho"] else it for key, it in params.items()}

    def value(raw):
        try:
            where = (conditions, template.get("Mappings", {}), stack["StackName"], stack["StackId"])
            return engine._resolve_refs(copy.deepcopy(raw), resources, known, *where)
        except Exception:
            return LATER

    with stacks._stack_region_context(stack, stack["StackId"]):
        conditions = engine._evaluate_conditions(template, params)
        properties = template["Resources"][name].get("Properties") or {}
        return {key: value(raw) for key, raw in properties.items()}


def hidden(value):
    return f"\ue000{hashlib.sha256(value.encode()).hexdigest()}\ue001"


def shown(value):
    if isinstance(value, str) and LATER in value:
        return LATER
    told = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return re.sub("\ue000.*?\ue001", "****", told)


def leaves(path, old, new):
    """Yields the path of every leaf that differs, with what it is before and after."""
    if isinstance(old, dict) and isinstance(new, dict) and path[-1] not in DOCUMENTS:
        for key in sorted({*old, *new}, key=str):
            yield from leaves((*path, key), old.get(key, ABSENT), new.get(key, ABSENT))
    elif isinstance(old, list) and isinstance(new, list):
        for index, pair in enumerate(zip_longest(old, new, fillvalue=ABSENT)):
            yield from leaves((*path, index), *pair)
    elif old is not new and old != new:
        yield path, old, new


def causes(raw, path):
    """The parameters, resources and attributes that a leaf refers to."""
    for step in path:
        if isinstance(raw, dict) and any(key == "Ref" or key.startswith("Fn::") for key in raw):
            break
        try:
            raw = raw[step]
        except (LookupError, TypeError):
            return set()
    return {f"{name}.{attribute}" if attribute else name for name, attribute in engine._intrinsic_references(raw)}


def valued(details, found):
    """Yields a detail for each leaf that one speaks of, or that itself where there is none.

    What follows from another resource alone is a modification too: AWS tells both, the first as not known yet.
    """
    causing = {detail.get("CausingEntity") for detail in details} - {None}
    direct = {detail["Target"].get("Name") for detail in details if "CausingEntity" not in detail}
    for detail in details:
        name, cause = detail["Target"].get("Name"), detail.get("CausingEntity")
        ours = [leaf for leaf in found if leaf[0][1] == name and (cause is None or cause in leaf[1])]
        for path, entities, old, new in ours:
            values = {key: shown(value) for key, value in (("BeforeValue", old), ("AfterValue", new)) if value is not ABSENT}
            values["Path"] = "/" + "/".join(map(str, path))
            values["AttributeChangeType"] = "Add" if old is ABSENT else "Remove" if new is ABSENT else "Modify"
            told = {**detail, "Target": {**detail["Target"], **values}}
            dynamic = {"Evaluation": "Dynamic" if entities & causing or LATER in values.get("AfterValue", "") else "Static"}
            if name not in direct:
                yield {"Target": told["Target"], "ChangeSource": "DirectModification", **dynamic}
            yield told if cause else {**told, **dynamic}
        direct.add(name)
        if not ours:
            yield detail
