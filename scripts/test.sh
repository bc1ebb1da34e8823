#!/usr/bin/env bash
# Run the tests: all of them, or those named.
#   bash scripts/test.sh [pytest arguments]
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-2}"
python -m pytest "$@"
