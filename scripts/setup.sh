#!/bin/sh
# Makes .venv hold exactly what requirements.lock says and this checkout, editable. Quick when nothing changed.
set -eu
cd "$(dirname "$0")/.."

find_python() {
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
        if command -v "$candidate" >/dev/null 2>&1 &&
            "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "eric_sse needs Python 3.11 or newer; none of: ${PYTHON:-python3 python3.13 python3.12 python3.11}" >&2
    exit 1
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

stamp=.venv/.lock-installed
if [ -f "$stamp" ] && cmp -s requirements.lock "$stamp" && [ ! pyproject.toml -nt "$stamp" ]; then
    exit 0
fi

python=$(find_python)
if ! [ -x .venv/bin/python ]; then
    if ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
        echo "setup: installing python3-venv"
        as_root apt-get update -qq && as_root apt-get install -y -qq python3-venv
    fi
    echo "setup: creating .venv with $("$python" --version)"
    "$python" -m venv .venv
fi
echo "setup: installing the locked dependencies into .venv"
.venv/bin/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements.lock
.venv/bin/python -m pip install -qq --disable-pip-version-check --no-build-isolation --no-deps --editable .
cp requirements.lock "$stamp"
