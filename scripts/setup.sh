#!/bin/sh
# Makes .venv hold exactly what requirements.lock says and this checkout, editable. Quick when nothing changed.
# Takes the first Python that is new enough; PYTHON names another one.
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh

# What .venv was made from: when this changes, it is brought up to date. The tools' settings do not matter to it.
wanted() {
    pwd
    sed '/^\[tool\.ruff/q' pyproject.toml
    cat requirements.lock
}

version_of() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])'; }

find_python() {
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "eric_sse needs Python 3.11 or newer; none of: ${PYTHON:-python3 python3.13 python3.12 python3.11}" >&2
    exit 1
}

stamp=.venv/.made-from
if [ -n "${PYTHON:-}" ] && [ -f "$stamp" ] && [ "$(version_of "$PYTHON")" != "$(version_of .venv/bin/python)" ]; then
    rm "$stamp"
fi
if [ -f "$stamp" ] && wanted | cmp -s - "$stamp"; then
    exit 0
fi

# A .venv that was moved, half made, or whose Python is gone, is made anew.
if ! [ -f "$stamp" ] || [ "$(head -n 1 "$stamp")" != "$(pwd)" ] || ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    python=$(find_python)
    version=$(version_of "$python")
    "$python" -c 'import venv, ensurepip' 2>/dev/null || apt_install "python$version-venv"
    echo "setup: creating .venv with Python $version"
    "$python" -m venv --clear .venv
fi

echo "setup: installing the locked dependencies into .venv"
rm -f "$stamp"
pip="env PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore .venv/bin/python -m pip install -qq"
$pip --require-hashes -r requirements.lock
$pip --no-build-isolation --no-deps --editable .
wanted >"$stamp"
