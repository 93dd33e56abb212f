#!/bin/sh
# Sees to it that the peers which `make bench` measures are there, at the versions named below, and builds the C
# programs. What is missing is installed: programs with apt-get, everything else into benchmarks/peers. Quick when
# nothing is missing. With arguments, only these venvs: `sh scripts/bench-deps.sh none` for the C programs alone.
# A peer that cannot be had is told, and is no error: the others are measured without it, and the report says so.
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh

peers=benchmarks/peers
venvs=$peers/.venvs
uvicorn="uvicorn==0.54.0 uvloop==0.23.0 httptools==0.9.0"

is_there() { command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ]; }

wanted_programs() {
    [ "${1:-}" != none ] || return 0
    is_there nginx || echo nginx
    [ -e /usr/lib/nginx/modules/ngx_nchan_module.so ] || echo libnginx-mod-nchan
    is_there node || echo nodejs
    is_there npm || echo npm
}

# Debian starts a service when it installs one, unless this program forbids it. The benchmark starts its own nginx.
install_without_starting() {
    policy=/usr/sbin/policy-rc.d
    if [ "$(id -u)" = 0 ] && [ ! -e "$policy" ]; then
        trap 'rm -f "$policy"' EXIT
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod +x "$policy"
    fi
    apt_install "$@"
}

# A program is built anew when its source is newer.
build() {
    [ ! "$peers/build/$1" -nt "$peers/$2" ] || return 0
    mkdir -p "$peers/build"
    gcc -O2 -Wall -Wextra -o "$peers/build/$1" "$peers/$2"
}

# A venv is kept as long as it was made of the same requirements by the same Python.
venv() {
    name=$1
    shift
    made_from="$python $*"
    if [ -f "$venvs/$name/.made-from" ] && [ "$(cat "$venvs/$name/.made-from")" = "$made_from" ]; then return 0; fi
    echo "bench-deps: installing $*"
    "$python" -m venv --clear "$venvs/$name" || exit 1
    "$venvs/$name/bin/python" -m pip install -qq --disable-pip-version-check "$@" || {
        echo "bench-deps: pip could not install: $*" >&2
        exit 1
    }
    echo "$made_from" >"$venvs/$name/.made-from"
}

peer() {
    # shellcheck disable=SC2086 # words
    case $1 in
        none) ;;
        sse_starlette) venv "$1" sse-starlette==3.7.0 starlette==1.10.0 $uvicorn ;;
        fastapi) venv "$1" fastapi==0.165.0 starlette==1.10.0 $uvicorn ;;
        django) venv "$1" django==5.2.19 django-eventstream==5.3.4 $uvicorn ;;
        eric) venv "$1" eric-api==1.6.0.9 eric-sse==2.1.1.2 uvloop==0.23.0 httptools==0.9.0 ;; # needs Python < 3.12
        plots) venv "$1" matplotlib==3.11.2 ;;
        better_sse) node_peer ;;
        *) echo "bench-deps: unknown peer $1" >&2; exit 1 ;;
    esac
}

node_peer() {
    folder=$peers/apps/better_sse
    [ ! "$folder/node_modules/better-sse/package.json" -nt "$folder/package.json" ] || return 0
    echo "bench-deps: installing better-sse"
    (cd "$folder" && npm install --silent --no-audit --no-fund --no-package-lock) || {
        echo "bench-deps: npm could not install what $folder/package.json names" >&2
        exit 1
    }
    touch "$folder/node_modules/better-sse/package.json"
}

python=${PYTHON:-$(command -v python3.11 || echo .venv/bin/python)}
is_there gcc || install_without_starting gcc libc6-dev
build sseload sseload.c
build raw_c apps/raw_c.c
programs=$(wanted_programs "$@")
without=
# In subshells, which are all that a peer's failure ends.
# shellcheck disable=SC2086 # words
[ -z "$programs" ] || (install_without_starting $programs) || without=" $programs"
for name in ${*:-sse_starlette fastapi django eric plots better_sse}; do (peer "$name") || without="$without $name"; done
[ -z "$without" ] || echo "bench-deps: going on without:$without" >&2
