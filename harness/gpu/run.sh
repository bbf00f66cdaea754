#!/usr/bin/env bash
# On a GPU machine, in the project's root: installs the kit beside the machine's own packages, into a folder of its own,
# and runs `python3 -m harness.gpu.proof` with the arguments given.
set -eu
kit=$(cd "$(dirname "$0")" && pwd)
site=$kit/site
export PYTHONUNBUFFERED=1 PYTHONPATH="$PWD/server:$PWD/adapters:$PWD/client:$PWD:$site" PATH="$site/bin:$PATH"
if [ ! -e "$site/installed" ]; then
    python3 -m pip install --quiet --no-index --no-deps --no-cache-dir --upgrade --target "$site" "$kit"/wheels/*.whl
    touch "$site/installed"
fi
exec python3 -m harness.gpu.proof "$@"
