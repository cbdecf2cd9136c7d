"""Writes which actions CloudFormation's handlers of each resource type may call, from the registry schemas that cfn-lint
bundles: src/infra/data/permissions.json.gz. `make permissions` runs it.
"""

import gzip
import json
import sys
from pathlib import Path

import cfnlint

schemas = Path(cfnlint.__file__).parent / "data" / "schemas"
types = {}
# Most types are in the first region; some are elsewhere only.
for region in ("us-east-1", "eu-west-1", "us-west-2", "ap-northeast-1"):
    for name, schema in json.loads((schemas / "providers" / f"{region}.json").read_text()).items():
        path = schemas / "resources" / f"{schema}.json"
        if name in types or not path.exists():
            continue
        handlers = json.loads(path.read_text()).get("handlers", {})
        wanted = [handlers.get(kind, {}).get("permissions", []) for kind in ("create", "read", "update", "delete")]
        if actions := sorted({action for one in wanted for action in one if ":" in action}):
            types[name] = actions
text = json.dumps(types, separators=(",", ":"), sort_keys=True)
Path(sys.argv[1]).write_bytes(gzip.compress(text.encode(), 9, mtime=0))
print(f"{len(types)} types")
