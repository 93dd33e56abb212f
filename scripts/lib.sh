# Shared by the scripts beside it: `. scripts/lib.sh`.

# Installs Debian packages, or says how to.
apt_install() {
    command -v apt-get >/dev/null 2>&1 || { echo "missing here, and there is no apt-get: $*" >&2; exit 1; }
    as_root=
    if [ "$(id -u)" != 0 ]; then
        # Never ask for a password: whoever runs this may not be at the terminal.
        if ! sudo -n true 2>/dev/null; then
            echo "missing; install it and run this again:  sudo apt-get install $*" >&2
            exit 1
        fi
        as_root="sudo -n"
    fi
    echo "installing with apt-get: $*"
    $as_root env DEBIAN_FRONTEND=noninteractive sh -c 'apt-get update -qq && apt-get install -y -qq --no-install-recommends "$@" >/dev/null' sh "$@" || {
        echo "apt-get could not install: $*" >&2
        exit 1
    }
}
