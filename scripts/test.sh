#!/usr/bin/env bash
# Run the tests: all of them, or those named.
#   bash scripts/test.sh [--fast] [pytest arguments]
# --fast leaves out what takes long or loads PyTorch: for the minutes between changes, not instead of all tests.
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"
# One process a core, each on one thread: most tests are too small for more. A file's tests stay together for their fixtures.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
# Tests start many processes: the sources are compiled once for all, also where the environment says not to keep bytecode.
unset PYTHONDONTWRITEBYTECODE
python -m pytest --numprocesses auto --maxprocesses 8 --dist loadfile --durations=25 "$@"
