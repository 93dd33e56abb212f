#!/bin/sh
# Writes requirements.lock anew: everything the repo's commands need, with hashes, for every supported Python.
set -eu
cd "$(dirname "$0")/.."
.venv/bin/python -m pip install --quiet uv
.venv/bin/uv pip compile --universal --python-version 3.11 --generate-hashes --no-annotate --quiet \
    --all-extras --group dev --custom-compile-command "make lock" \
    --output-file requirements.lock pyproject.toml scripts/build-requirements.in "$@"
