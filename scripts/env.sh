# Sourced by the other scripts: makes .venv from the constraints file once, and puts it on PATH.
# The stamp holds what the environment was made from, so that a change of either file installs again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

PYTHON="${PYTHON:-python3}"
if ! "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "brats_seg needs Python 3.11 or newer; '$PYTHON' is $("$PYTHON" --version 2>&1). Set PYTHON=/path/to/python3.11" >&2
    exit 2
fi
EXTRAS="${EXTRAS:-dev}"
WANTED="$EXTRAS $(cat pyproject.toml constraints.txt | cksum)"
if [ ! -f .venv/stamp ] || [ "$(cat .venv/stamp)" != "$WANTED" ]; then
    [ -d .venv ] || "$PYTHON" -m venv .venv
    # torch first and by its exact version: a CPU build where one is at hand, instead of gigabytes of CUDA libraries
    .venv/bin/python -m pip install --quiet --constraint constraints.txt "$(grep '^torch==' constraints.txt)"
    .venv/bin/python -m pip install --quiet --constraint constraints.txt --editable ".[$EXTRAS]"
    echo "$WANTED" > .venv/stamp
fi
PATH="$PWD/.venv/bin:$PATH"
export PATH
