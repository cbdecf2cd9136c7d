"""An organization for tests, served by moto: 444444444444 in a unit of tenants, 222222222222 and 333333333333 in a unit
below it, and 666666666666, which is closed, there too; 555555555555 is elsewhere. Prints one line of JSON that says how to reach it,
and ends when its standard input ends.

    organization.py [ACCOUNTS]

ACCOUNTS further accounts are in the unit of tenants: what is listed has pages of twenty.
"""

import json
import logging
import sys

import boto3
import moto.organizations.utils as utils
from moto.server import ThreadedMotoServer

TENANTS = [("sandbox", "222222222222"), ("unicorn", "333333333333"), ("gnome", "444444444444")]
further = int(sys.argv[1]) if len(sys.argv) > 1 else 0
random_id = utils.make_random_account_id
logging.getLogger("werkzeug").setLevel("ERROR")
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
host, port = server.get_host_and_port()
endpoint = f"http://{host}:{port}"
client = boto3.client(
    "organizations", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x"
)
client.create_organization(FeatureSet="ALL")
root = client.list_roots()["Roots"][0]["Id"]


def unit(parent, name):
    return client.create_organizational_unit(ParentId=parent, Name=name)["OrganizationalUnit"]["Id"]


def account(name, number, where, **tags):
    utils.make_random_account_id = lambda: number
    made = client.create_account(
        Email=f"{name}@example.com", AccountName=name, Tags=[{"Key": key, "Value": value} for key, value in tags.items()]
    )["CreateAccountStatus"]["AccountId"]
    client.move_account(AccountId=made, SourceParentId=root, DestinationParentId=where)
    return made


tenants = unit(root, "tenants")
early = unit(tenants, "early")
for name, number in TENANTS:
    account(name, number, tenants if name == "gnome" else early, tenant=name, ring="late" if name == "gnome" else "canary")
account("logs", "555555555555", unit(root, "others"))
client.close_account(AccountId=account("gone", "666666666666", early, tenant="gone"))
for number in range(further):
    account(f"t{number:03}", str(500000000001 + number), tenants, tenant=f"t{number:03}")
utils.make_random_account_id = random_id
print(json.dumps({"endpoint": endpoint, "ou": tenants, "root": root}), flush=True)
sys.stdin.read()
