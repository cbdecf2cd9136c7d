"""Stands in for the resources of Verified Permissions in stacks: they get ids, are updated and deleted, and decide nothing.

MiniStack refuses templates with types that it does not know, and moto takes them and makes nothing.
"""

import hashlib

import ministack.services.cloudformation.provisioners as provisioners
from ministack.core.responses import get_account_id

KIND = "AWS::VerifiedPermissions::"
stores = set()


def short(*parts):
    return hashlib.sha256("/".join(parts).encode()).hexdigest()[:22]


def store(physical):
    arn = f"arn:aws:verifiedpermissions::{get_account_id()}:policy-store/{physical}"
    return physical, {"PolicyStoreId": physical, "Arn": arn}


def create_store(logical, props, stack):
    physical = "PS" + short(get_account_id(), stack, logical)
    stores.add(physical)
    return store(physical)


def member(prefix, attribute, ref):
    """A policy or a template: `ref` makes what Ref returns of the ids of its store and its own."""

    def create(logical, props, stack):
        if props["PolicyStoreId"] not in stores:
            raise ValueError(f"Resource of type '{KIND}PolicyStore' with identifier '{props['PolicyStoreId']}' was not found.")
        own = prefix + short(props["PolicyStoreId"], logical)
        return ref.format(store=props["PolicyStoreId"], own=own), {attribute: own}

    def update(physical, old, new, stack):
        return physical, {attribute: next(part for part in physical.split("|") if part.startswith(prefix))}

    return {"create": create, "update": update, "delete": lambda physical, props: None}


provisioners._RESOURCE_HANDLERS[KIND + "PolicyStore"] = {
    "create": create_store,
    "update": lambda physical, old, new, stack: store(physical),
    "delete": lambda physical, props: stores.discard(physical),
}
# What Ref returns has the parts in the order of the registry's primaryIdentifier.
provisioners._RESOURCE_HANDLERS[KIND + "Policy"] = member("SP", "PolicyId", "{own}|{store}")
provisioners._RESOURCE_HANDLERS[KIND + "PolicyTemplate"] = member("PT", "PolicyTemplateId", "{store}|{own}")
for name, replacing in [("PolicyStore", ()), ("Policy", ("PolicyStoreId",)), ("PolicyTemplate", ("PolicyStoreId",))]:
    provisioners._REPLACING_PROPERTIES[KIND + name] = replacing
