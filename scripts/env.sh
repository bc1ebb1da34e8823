# Sourced by the other scripts: makes .venv from the constraints file once, and puts it on PATH.
# The stamp holds what the environment was made from, so that a change of either file installs again.
# EXTRAS is a list of extras, or cpu: what runs on the CPU alone, for which any other environment serves as well.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

PYTHON="${PYTHON:-python3}"
if ! "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "brats_seg needs Python 3.11 or newer; '$PYTHON' is $("$PYTHON" --version 2>&1). Set PYTHON=/path/to/python3.11" >&2
    exit 2
fi
EXTRAS="${EXTRAS:-dev}"
SUM="$(cat pyproject.toml constraints.txt | cksum)"
STAMP="$(cat .venv/stamp 2>/dev/null || true)"
if [ "$STAMP" != "$EXTRAS $SUM" ] && ! { [ "$EXTRAS" = cpu ] && [ "${STAMP#* }" = "$SUM" ]; }; then
    echo "installing into .venv ($EXTRAS), once; this takes some minutes" >&2
    [ -d .venv ] || "$PYTHON" -m venv .venv
    install() { .venv/bin/python -m pip install --quiet --constraint constraints.txt "$@"; }
    if [ "$EXTRAS" = cpu ]; then
        .venv/bin/python -c '
import tomllib
needed = tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"]
print("\n".join(line for line in needed if not line.startswith(("torch", "monai", "safetensors"))))
' > .venv/needed.txt
        install --requirement .venv/needed.txt
        install --no-deps --editable .
    else
        # torch first and by its exact version: a CPU build where one is at hand, instead of gigabytes of CUDA libraries
        install "$(grep '^torch==' constraints.txt)"
        install --editable ".[$EXTRAS]"
    fi
    echo "$EXTRAS $SUM" > .venv/stamp
fi
PATH="$PWD/.venv/bin:$PATH"
export PATH
