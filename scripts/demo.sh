#!/usr/bin/env bash
# The main job on a fresh machine: make a phantom patient, segment it, say where to look.
#   bash scripts/demo.sh [OUT]
# The CPU needs neither PyTorch nor MONAI, which are most of what a full environment holds.
EXTRAS="${EXTRAS:-cpu}"
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"
brats-seg demo -o "${1:-out/demo}" --overwrite
