# machine.sh: what the tests in emulated machines share: test-aarch64, test-aarch64-system, test-x86-system. Sourced at
# the top of the tree; the sourcer defines fail.

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

# cross_build FOLDER: the library for aarch64 and the program test-aarch64 in it.
cross_build() {
    log=$(nice -n 19 make -s CC=aarch64-linux-gnu-gcc AR=aarch64-linux-gnu-ar ARCH=aarch64 BUILD="$1" all 2>&1 &&
        nice -n 19 aarch64-linux-gnu-gcc -std=gnu11 -Wall -Wextra -Wshadow -Wundef -Wcast-qual -Werror -O2 -g \
            -fno-builtin -pthread -rdynamic -I. -Iinclude scripts/test-aarch64.c -o "$1/test-aarch64" 2>&1) && return
    echo "$log" | sed 's/^/# /'
    fail 'the cross build failed'
}

# apt-get and apt-cache for another machine: state and sources are those that fetch_kernel made in $apt_folder.
other_apt() {
    APT_CONFIG=$apt_folder/apt.conf nice -n 19 "$@"
}

# The name of the package with the kernel that the meta package $1 of release $2 stands for: linux-image-VERSION, or
# linux-binary-VERSION, into which Debian moved the file in 2026.
real_package() {
    package=$(other_apt apt-cache show "$1/$2" | sed -n 's/^Depends:.*[ ,]\(linux-image-[^ ,]*\).*/\1/p' | head -1)
    package=${package:-$1}
    other_apt apt-cache show "linux-binary-${package#linux-image-}" 2>/dev/null | sed -n 's/^Package: //p' |
        grep . || echo "$package"
}

# fetch_kernel ARCHITECTURE FOLDER PACKAGE[/RELEASE]: a Debian kernel, fetched with an index of its own in FOLDER, so
# that nothing of the host's dpkg changes. Prints the name of the file.
fetch_kernel() {
    apt_folder=$2
    case $3 in
    */*) release=${3#*/} ;;
    *) release=bookworm ;;
    esac
    mkdir -p "$apt_folder/state/lists/partial" "$apt_folder/cache/archives/partial" || return
    cat >"$apt_folder/apt.conf" <<END
APT::Architecture "$1";
APT::Architectures { "$1"; };
APT::Sandbox::User "";
Dir::State "$apt_folder/state";
Dir::State::status "/dev/null";
Dir::Cache "$apt_folder/cache";
Dir::Etc::sourcelist "$apt_folder/sources.list";
Dir::Etc::sourceparts "-";
END
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian $release main" \
        >"$apt_folder/sources.list"
    other_apt apt-get -q update >&2 || return
    package=$(real_package "${3%%/*}" "$release" | head -1)
    if ! [ -e "$apt_folder/$package/vmlinuz" ]; then
        mkdir -p "$apt_folder/$package" || return
        (cd "$apt_folder/$package" && other_apt apt-get -q download "$package" >&2 &&
            dpkg-deb --fsys-tarfile ./*.deb | tar -x --wildcards --transform 's,.*/,,;s,-.*,,' './*/vmlinuz*' &&
            rm -f ./*.deb) || return
    fi
    echo "$apt_folder/$package/vmlinuz"
}

# kernel_image ARCHITECTURE FOLDER KERNEL: sets image to the file that KERNEL is, or that fetch_kernel finds.
kernel_image() {
    if [ -f "$3" ]; then
        image=$3
        return
    fi
    mkdir -p "$2"
    image=$(fetch_kernel "$@" 2>"$2/fetch.log") || {
        sed 's/^/# /' "$2/fetch.log"
        fail "cannot fetch $3"
    }
}

# pack_root FOLDER FILE: the folder as an initial file system.
pack_root() {
    (cd "$1" && find . | cpio --quiet -o -H newc) >"$2" || fail 'cpio failed'
}

# record FILE EMULATOR COMMAND...: runs the command; what it prints is shown, and kept in FILE with what it ran on.
record() {
    file=$1
    emulator=$2
    shift 2
    library='include base pagemap backend middle frontend'
    commit=$(git log -1 --format=%h -- $library)
    git diff --quiet HEAD -- $library || commit="$commit with changes"
    {
        echo "# Written by $0, $(date -u '+%Y-%m-%d %H:%M UTC'): the library of $commit, on $(nproc) CPUs, in"
        echo "# $("$emulator" --version | head -1)"
        if "$@"; then echo '# all passed'; else echo '# not all passed'; fi
    } | tee "$file.part"
    mv "$file.part" "$file"
    tail -1 "$file" | grep -qx '# all passed'
}
