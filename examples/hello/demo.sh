#!/usr/bin/env bash
# The main job, end to end, against a local AWS that this script starts and ends: one release of examples/hello to
# a sandbox and then, after an approval, to the tenants Unicorn and Gnome, each in an account of its own.
#
# `make demo` installs what is needed and runs it. The emulator ends with this script, however the script ends.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
python=${TENANTRY_BED_PYTHON:?run this with "make demo"}
work=$(mktemp -d)
cp -r "$here"/. "$work"
cd "$work"

say() { printf '\n\033[1;36m== %s\033[0m\n' "$*"; }
run() { printf '\033[2m$ %s\033[0m\n' "$*"; "$@"; }
fact() { "$python" -c 'import json, sys; print(json.load(open("bed.json"))[sys.argv[1]])' "$1"; }

# The emulator lives as long as its standard input, which is this script.
mkfifo stdin
TMPDIR=$work "$python" "$here/../../tests/bed/bed.py" <stdin >bed.json 2>bed.log &
bed=$!
exec 9>stdin
trap 'exec 9>&-; wait "$bed" 2>/dev/null || true; rm -rf "$work"' EXIT

say "A local AWS starts: a tooling account and the accounts of sandbox, unicorn and gnome"
for _ in $(seq 300); do [ -s bed.json ] && break; sleep 0.1; done
[ -s bed.json ] || { cat bed.log >&2; exit 1; }
export AWS_ENDPOINT_URL AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_EC2_METADATA_DISABLED=true
unset AWS_PROFILE AWS_SESSION_TOKEN AWS_ENDPOINT_URL_S3
AWS_ENDPOINT_URL=$(fact endpoint) AWS_ACCESS_KEY_ID=$(fact access_key_id) AWS_SECRET_ACCESS_KEY=$(fact secret_access_key)

say "The configuration is checked, without any call"
run tenantry check

say "Deploy: packaged once, released to the sandbox; production waits at its gate (exit code 3)"
run tenantry deploy --log-format plain --outputs-file outputs || [ $? = 3 ]

say "Somebody has read the plan, and approves exactly it"
digest=$(sed -n 's/^plan-digest=//p' outputs)
run tenantry approve "$digest" --comment "as agreed" --log-format plain
run tenantry apply "$digest" --log-format plain

say "What runs where"
run tenantry status --log-format plain 2>/dev/null

say "The same again: nothing is uploaded, nothing is changed"
run tenantry deploy --log-format plain

say "One line of code later: only the function changes"
for file in src/index.js tenantry.yaml; do
  sed 's/Hello!/Hello, and welcome!/' "$file" >changed && cat changed >"$file"
done
run tenantry plan --stage prod --log-format plain --outputs-file outputs
digest=$(sed -n 's/^plan-digest=//p' outputs | tail -n 1)
run tenantry deploy --approve "$digest" --log-format plain

say "One customer goes back to the release before, by the same gate; then it lags"
# What is verified stands in the configuration: the older release greets as before.
sed 's/Hello, and welcome!/Hello!/' tenantry.yaml >changed && cat changed >tenantry.yaml
run tenantry rollback --tenant gnome --log-format plain --outputs-file outputs || [ $? = 3 ]
digest=$(sed -n 's/^plan-digest=//p' outputs | tail -n 1)
run tenantry apply "$digest" --approve "$digest" --log-format plain
run tenantry status --stage prod --log-format plain 2>/dev/null
run tenantry releases

say "And away with it"
run tenantry destroy --stage prod --confirm prod --log-format plain
run tenantry destroy --stage dev --confirm dev --log-format plain
run tenantry status --log-format plain 2>/dev/null
