# aarch64.sh: what test-aarch64 and test-aarch64-system share. Sourced at the top of the tree; the sourcer defines fail.

needed=''

# need COMMAND-OR-FILE PACKAGE: the package is wanted unless its probe is there.
need() {
    case $1 in
    /*) [ -e "$1" ] ;;
    *) command -v "$1" >/dev/null ;;
    esac || needed="$needed $2"
}

# The output of apt-get is shown as diagnostics, and only if it fails. The package names are meant to be split.
install_needed() {
    [ -n "$needed" ] || return 0
    command -v apt-get >/dev/null || fail "missing, and no apt-get here:$needed"
    [ "$(id -u)" -eq 0 ] || fail "missing; have root install:$needed"
    log=$({ apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 install \
        --no-install-recommends $needed; } 2>&1 </dev/null) && return
    echo "$log" | sed 's/^/# /'
    fail "cannot install:$needed"
}

# cross_build FOLDER: the library and the program test-aarch64 in it.
cross_build() {
    log=$(nice -n 19 make -s CC=aarch64-linux-gnu-gcc AR=aarch64-linux-gnu-ar ARCH=aarch64 BUILD="$1" all 2>&1 &&
        nice -n 19 aarch64-linux-gnu-gcc -std=gnu11 -Wall -Wextra -Wshadow -Wundef -Wcast-qual -Werror -O2 -g \
            -fno-builtin -pthread -rdynamic -I. -Iinclude scripts/test-aarch64.c -o "$1/test-aarch64" 2>&1) && return
    echo "$log" | sed 's/^/# /'
    fail 'the cross build failed'
}
