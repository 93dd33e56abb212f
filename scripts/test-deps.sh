#!/bin/sh
# Sees to it that the programs which the tests start are there: installs those that are missing, or fails and says what
# to install. A test is never skipped for want of one. With arguments, only these.
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh

package_of() {
    case $1 in
        chromium) echo chromium ;;      # a browser's own EventSource
        curl) echo curl ;;              # the documentation's examples
        node) echo nodejs ;;            # npm's eventsource-parser reads what ours writes; pyright
        npm) echo npm ;;
        openssl) echo openssl ;;        # certificates
        initdb) echo postgresql ;;      # PostgreSQL's engine
        redis-server) echo redis-server ;; # Redis's engine; the package eric-redis-queues
        *) echo "test-deps: unknown program $1" >&2; exit 1 ;;
    esac
}

# Debian keeps PostgreSQL's programs out of the way.
is_there() { command -v "$1" >/dev/null 2>&1 || ls /usr/lib/postgresql/*/bin/"$1" >/dev/null 2>&1; }

missing=
for program in ${*:-chromium curl initdb node npm openssl redis-server}; do
    is_there "$program" || missing="$missing $(package_of "$program")"
done
# shellcheck disable=SC2086 # words
[ -z "$missing" ] || apt_install $missing
