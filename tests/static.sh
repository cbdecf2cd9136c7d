#!/usr/bin/env bash
# Shows that a binary is static: ldd finds nothing, and it runs in a root directory with nothing else in it.
set -euo pipefail
binary=$1

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
cp "$binary" "$root/tenantry"

if ldd "$binary" 2>&1 | grep -vq -e 'statically linked' -e 'not a dynamic executable'; then
  ldd "$binary" >&2
  echo "error: $binary is not static" >&2
  exit 1
fi
if [ "$(id -u)" = 0 ]; then
  enter=(chroot)
elif unshare --map-root-user true 2>/dev/null; then
  enter=(unshare --map-root-user chroot)
else
  # Some systems allow nobody but root a root directory of their own.
  enter=(sudo -n chroot)
fi
"${enter[@]}" "$root" /tenantry --version
"${enter[@]}" "$root" /tenantry schema | cmp - schema/tenantry.schema.json
echo "static: $(stat -c %s "$binary") bytes, runs in an empty root"
