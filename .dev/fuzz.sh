# `./dev fuzz TARGET SECONDS|minimise [libFuzzer options]`: searches with coverage. Sourced by ./dev.
#
# libFuzzer without cargo-fuzz: the compiler's own coverage pass works on a stable toolchain, and the targets
# are plain functions (tests/fuzz). A build of its own is kept in the target folder, and what was found grows
# there; the tree keeps a minimised corpus.

FUZZ_PASS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=3"
FUZZ_PASS+=" -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table"
FUZZ_PASS+=" -Cllvm-args=-sanitizer-coverage-trace-compares"
# What allocates for an announced length fails at once, in KiB.
FUZZ_ADDRESS_SPACE=4194304

fuzz() { # target seconds|minimise [options]
    (($# >= 2)) || die "./dev fuzz TARGET SECONDS, or ./dev fuzz TARGET minimise"
    local target=$1 how=$2
    shift 2
    local kept=tests/fuzz/corpus/$target home=$TARGET_DIR/fuzz
    [[ -d $kept ]] || die "no target $target: $(cd tests/fuzz/corpus && echo *)"
    fuzz_build "$home"
    local program=$home/$(fuzz_triple)/$PROFILE/quoris-fuzz found=$home/found/$target
    mkdir -p "$found"
    export QUORIS_FUZZ=$target
    if [[ $how == minimise ]]; then
        local smaller
        smaller=$(mktemp -d "$home/smaller.XXXXXX")
        "$program" -merge=1 -max_len=2000 "$smaller" "$kept" "$found"
        fuzz_keep "$smaller" "$kept"
        rm -rf "$smaller"
        return
    fi
    (
        ulimit -v $FUZZ_ADDRESS_SPACE
        "$program" -max_total_time="$how" -artifact_prefix="$home/$target-" -timeout=20 -rss_limit_mb=2048 \
            -print_final_stats=1 "$@" "$found" "$kept"
    ) || die "$target fails: the input lies in $home; put it into $kept when it is understood"
}

fuzz_triple() {
    rustc -vV | sed -n 's/^host: //p'
}

# The flags of .cargo/config.toml would be replaced by RUSTFLAGS, so they stand here as well.
fuzz_build() { # target-dir
    local flags="$FUZZ_PASS --cfg tokio_unstable"
    [[ $(uname -m) != x86_64 ]] || flags+=" -Ctarget-cpu=x86-64-v2"
    RUSTFLAGS=$flags CARGO_TARGET_DIR=$1 cargo build --locked --profile "$PROFILE" --target "$(fuzz_triple)" \
        -p quoris-fuzz --features libfuzzer --bin quoris-fuzz
}

# Inputs that were named by hand stay; of the found ones the smallest, up to 30 KB for a target.
fuzz_keep() { # from to
    local file bytes=0
    while IFS= read -r file; do
        bytes=$((bytes + $(wc -c <"$file")))
        ((bytes < 30000)) || break
        cp -n "$file" "$2/" 2>/dev/null || true
    done < <(find "$1" -type f -printf '%s %p\n' | sort -n | cut -d' ' -f2-)
}
