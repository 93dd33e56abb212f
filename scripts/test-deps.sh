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
        redis-server) echo redis-server ;; # the package eric-redis-queues
        *) echo "test-deps: unknown program $1" >&2; exit 1 ;;
    esac
}

missing=
for program in ${*:-chromium curl node npm redis-server}; do
    command -v "$program" >/dev/null 2>&1 || missing="$missing $(package_of "$program")"
done
# shellcheck disable=SC2086 # words
[ -z "$missing" ] || apt_install $missing
