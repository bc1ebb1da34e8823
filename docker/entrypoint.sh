#!/usr/bin/env bash
# Without arguments: segment everything in /input into /output, keeping what is finished. With arguments: brats-seg.
set -euo pipefail
if [ $# -gt 0 ]; then
    exec brats-seg "$@"
fi
exec brats-seg segment /input -o /output --resume
