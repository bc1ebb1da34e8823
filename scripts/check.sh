#!/usr/bin/env bash
# Format, lint and types, exactly as CI runs them.
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"
ruff format --check .
ruff check .
mypy
