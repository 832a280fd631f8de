#!/usr/bin/env bash
# Install what is missing, and only that: Debian packages (as root), then a virtual environment from the lock file.
# Idempotent: a second run costs a fraction of a second. Services of the installed packages are not started.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${1:-.venv}
mapfile -t wanted < <(grep -vE '^\s*(#|$)' packaging/debian-packages.txt)

missing=()
for package in "${wanted[@]}"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
    if [ "$(id -u)" != 0 ]; then
        echo "setup: not root, and these Debian packages are missing: ${missing[*]}" >&2
        echo "setup: install them, or run this as root" >&2
        exit 1
    fi
    echo "setup: installing ${missing[*]}"
    # policy-rc.d keeps the daemons down: the lab starts its own, in its own namespaces.
    policy=/usr/sbin/policy-rc.d
    made_policy=
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
        made_policy=1
    fi
    trap '[ -z "$made_policy" ] || rm -f "$policy"' EXIT
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

python=python3
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "setup: python 3.11 or newer is needed" >&2; exit 1; }
stamp="$venv/.lock-digest"
digest=$(cat requirements.lock pyproject.toml | sha256sum | cut -d' ' -f1)
if [ ! -x "$venv/bin/python" ] || [ "$(cat "$stamp" 2>/dev/null)" != "$digest" ]; then
    echo "setup: building $venv from requirements.lock"
    [ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
    echo "$digest" >"$stamp"
fi
