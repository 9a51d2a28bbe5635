# What Quoris needs beside a Rust toolchain, installed when it is missing. Sourced by ./dev.

CARGO_DENY_VERSION=0.20.2
CARGO_NEXTEST_VERSION=0.9.151

# To build and run: a C++ compiler and make (RocksDB, jemalloc), libclang (bindgen reads RocksDB's header).
deps_build() {
    command -v cargo >/dev/null || die "no cargo: install a Rust toolchain first"
    rust_is_new_enough
    local packages=()
    command -v g++ >/dev/null || packages+=(g++)
    command -v make >/dev/null || packages+=(make)
    libclang_present || packages+=(libclang-dev)
    install_packages "${packages[@]}"
    rocksdb
}

# The programs that tests and benchmarks compare with or lean on. Their services are not started.
deps_peers() {
    local packages=()
    command -v redis-server >/dev/null || packages+=(redis-server)
    command -v redis-cli >/dev/null || packages+=(redis-tools)
    command -v etcd >/dev/null || packages+=(etcd-server)
    command -v ip >/dev/null || packages+=(iproute2)
    compgen -G '/usr/lib/*/faketime/libfaketime.so.1' >/dev/null || packages+=(libfaketime)
    install_packages "${packages[@]}"
}

# The client libraries that tests/clients tries, in the versions that are pinned there. They lie in the
# cache, in a folder that carries these versions in its name; the tests find it by the same rule.
deps_clients() {
    local packages=() pins=(tests/clients/requirements.txt tests/clients/package.json) home
    python_with_venv >/dev/null || packages+=(python3 python3-venv)
    command -v node >/dev/null || packages+=(nodejs)
    command -v npm >/dev/null || packages+=(npm)
    install_packages "${packages[@]}"
    home=$CACHE/clients-$(grep -ohE '[0-9]+(\.[0-9]+)+' "${pins[@]}" | paste -sd-)
    clients_are_ready "$home" && return
    mkdir -p "$home"
    (
        flock 9
        clients_are_ready "$home" || clients_install "$home" "${pins[@]}"
    ) 9>"$home/lock"
}

clients_install() { # folder pins…
    local home=$1
    shift
    say "installing redis-py, ioredis and node-redis once"
    rm -f "$home/ready"
    cp "$@" "$home/"
    "$(python_with_venv)" -m venv --clear "$home/python"
    "$home/python/bin/python" -m pip install --quiet --disable-pip-version-check -r "$home/requirements.txt"
    (cd "$home" && npm install --loglevel=error --no-audit --no-fund --no-package-lock --ignore-scripts >&2)
    touch "$home/ready"
}

# A new version of Python leaves the libraries of the old one behind.
clients_are_ready() { # folder
    [[ -f $1/ready ]] && "$1/python/bin/python" -c 'import redis' 2>/dev/null
}

python_with_venv() {
    local python
    for python in python3 /usr/bin/python3; do
        if "$python" -c 'import ensurepip, venv' 2>/dev/null; then
            printf '%s' "$python"
            return
        fi
    done
    return 1
}

# The tools of the gate.
deps_tools() {
    rust_component fmt rustfmt
    rust_component clippy clippy
    rust_tool cargo-nextest $CARGO_NEXTEST_VERSION
    rust_tool cargo-deny $CARGO_DENY_VERSION
    CARGO_DENY=$(command -v cargo-deny)
}

# ---- Debian packages -----------------------------------------------------------------------------------

# The library alone, as other packages bring it, is not enough: bindgen also wants the compiler's headers.
libclang_present() {
    local at
    [[ -z ${LIBCLANG_PATH:-} ]] || return 0
    for at in '/usr/lib/llvm-*/lib' '/usr/lib' '/usr/lib64'; do
        compgen -G "$at/libclang.so*" && compgen -G "${at%64}/clang/*/include/stddef.h" && return
    done >/dev/null
    return 1
}

install_packages() {
    (($# > 0)) || return 0
    command -v apt-get >/dev/null || die "please install what Debian calls: $*"
    local root=()
    if ((EUID != 0)); then
        command -v sudo >/dev/null || die "neither root nor sudo; as root: apt-get install --no-install-recommends $*"
        root=(sudo)
    fi
    say "installing $*"
    "${root[@]}" apt-get update -qq
    without_services "$@"
}

# Debian starts a package's service when it installs it, and at every boot from then on. Tests start
# their own processes on ports of their own, so both are kept from happening; a service that was there
# before is left alone.
without_services() ( # package…
    policy=/usr/sbin/policy-rc.d
    if [[ ! -e $policy ]]; then
        # Also after Ctrl-C; left behind, it would keep every service of the machine from starting.
        # shellcheck disable=SC2064
        trap "${root[*]} rm -f $policy" EXIT
        printf '#!/bin/sh\nexit 101\n' | "${root[@]}" tee $policy >/dev/null
        "${root[@]}" chmod +x $policy
    fi
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >&2 ||
        die "apt-get could not install: $*"
    [[ -d /run/systemd/system ]] || exit 0
    for package in "$@"; do
        case $package in
            redis-server) "${root[@]}" systemctl disable --quiet redis-server ;;
            etcd-server) "${root[@]}" systemctl disable --quiet etcd ;;
        esac
    done
)

# ---- Rust tools ----------------------------------------------------------------------------------------

# Said before RocksDB is built, not after.
rust_is_new_enough() {
    local wanted found
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    found=$(rustc --version | cut -d ' ' -f 2)
    printf '%s\n%s\n' "$wanted" "$found" | sort -VC || die "Rust $found is too old, $wanted is needed: rustup update"
}

rust_component() { # cargo-subcommand component
    cargo "$1" --version >/dev/null 2>&1 && return
    command -v rustup >/dev/null || die "cargo $1 is missing and there is no rustup to add it"
    rustup component add "$2"
}

# A tool of crates.io: one found on the machine is used, else it is built once into the cache, cheaply:
# it runs for seconds.
rust_tool() { # name version
    local name=$1 version=$2 home=$CACHE/$1-$2
    PATH=$home/bin:$PATH
    command -v "$name" >/dev/null && return
    say "building $name $version once (a minute or two)"
    CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
        CARGO_PROFILE_RELEASE_DEBUG=false CARGO_PROFILE_RELEASE_STRIP=true CARGO_TARGET_DIR=$home.build \
        cargo install --locked --quiet --root "$home" "$name@$version"
    rm -rf "$home.build"
}

has_member() { # package
    grep -qx "name = \"$1\"" Cargo.lock
}

# ---- RocksDB -------------------------------------------------------------------------------------------

# RocksDB takes some 25 minutes of CPU time to compile and cargo would do it again for every profile,
# worktree and change of flags. So it is compiled once per version and CPU into the cache, and everything
# links that archive (ADR 5). To build it anew, remove its folder there.
rocksdb() {
    local version
    version=$(awk '/^name = "librocksdb-sys"$/ { getline; gsub(/version = |"/, ""); print; exit }' Cargo.lock)
    [[ -n $version ]] || return 0 # no crate of the workspace links it
    local cpu=generic flags=
    if [[ $(uname -m) == x86_64 ]]; then
        cpu=x86-64-v2 # SSE4.2 for the checksums; the same as in .cargo/config.toml
        flags=-Ctarget-cpu=$cpu
    fi
    local home=$CACHE/rocksdb-$version-$(uname -m)-$cpu
    if [[ ! -f $home/librocksdb.a ]]; then
        mkdir -p "$CACHE"
        (
            flock 9 # a second ./dev waits for the first instead of building too
            [[ -f $home/librocksdb.a ]] || rocksdb_build "$version" "$flags" "$home"
        ) 9>"$CACHE/lock"
    fi
    ROCKSDB_INCLUDE_DIR=$(rocksdb_source)/rocksdb/include
    [[ -f $ROCKSDB_INCLUDE_DIR/rocksdb/c.h ]] || die "RocksDB's headers are not at $ROCKSDB_INCLUDE_DIR"
    export ROCKSDB_LIB_DIR=$home ROCKSDB_STATIC=1 ROCKSDB_INCLUDE_DIR
}

# Where cargo unpacked librocksdb-sys; asking cargo also fetches what is missing.
rocksdb_source() {
    local manifest
    manifest=$(cargo metadata --locked --format-version 1 |
        grep -o '"manifest_path":"[^"]*/librocksdb-sys-[^"]*/Cargo.toml"' | head -n 1) || true
    manifest=${manifest#*:\"}
    printf '%s' "${manifest%/Cargo.toml\"}"
}

rocksdb_build() { # version rustflags destination
    local version=$1 flags=$2 home=$3 work status=0
    say "building RocksDB $version once: about 12 minutes on two cores, then never again"
    work=$(mktemp -d "$CACHE/build.XXXXXX")
    set -m # the build gets a process group of its own, which Ctrl-C then ends as a whole
    mkdir "$work/src"
    touch "$work/src/lib.rs"
    cp Cargo.lock "$work/" # the same bindgen, cc and lz4-sys; cargo drops the rest
    cat >"$work/Cargo.toml" <<TOML
[package]
name = "rocksdb-once"
edition = "2024"
[dependencies]
librocksdb-sys = { version = "=${version%%+*}", default-features = false, features = ["lz4", "bindgen-runtime"] }
[workspace]
TOML
    (
        cd "$work" || exit
        unset ROCKSDB_LIB_DIR ROCKSDB_STATIC ROCKSDB_INCLUDE_DIR ROCKSDB_COMPILE
        RUSTFLAGS=$flags CARGO_TARGET_DIR=$work/target CARGO_PROFILE_RELEASE_DEBUG=false exec cargo build --release
    ) >"$work/log" 2>&1 &
    # shellcheck disable=SC2064
    trap "kill -- -$! 2>/dev/null || true; rm -rf '$work'" EXIT
    rocksdb_progress $! "$work"
    wait $! || status=$?
    if ((status != 0)); then
        tail -n 30 "$work/log" >&2
        die "RocksDB did not build; its last words are above"
    fi
    rm -rf "$home.new"
    mkdir "$home.new"
    cp "$work"/target/release/build/librocksdb-sys-*/out/librocksdb.a "$home.new/"
    mv "$home.new" "$home"
    note "RocksDB is in $home"
}

rocksdb_progress() { # pid folder
    local start=$SECONDS every=30 next=0 before='\n' seconds built
    [[ -t 2 ]] && every=1 before='\r'
    while kill -0 "$1" 2>/dev/null; do
        sleep 1
        seconds=$((SECONDS - start))
        ((seconds >= next)) || continue
        next=$((seconds + every))
        built=$(find "$2/target" -path '*/librocksdb-sys-*/out/*.o' 2>/dev/null | wc -l)
        printf "$before   %d of about 343 objects, %d min %02d s" "$built" $((seconds / 60)) $((seconds % 60)) >&2
    done
    printf '\n' >&2
}
