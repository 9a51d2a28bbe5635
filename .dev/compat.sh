# `./dev compat [NODES]`: Redis's own test suite, from outside. Sourced by ./dev.
#
# The suite comes from Debian's source package of redis and stays in the cache. It runs once against
# redis-server, which is the measure, and then against the release build.

COMPAT_TAGS="-slow -needs:repl"
COMPAT_REDIS="redis-server --port {port} --dir {dir} --bind 127.0.0.1 --save '' --enable-debug-command yes --enable-protected-configs yes"
# What a server of Redis 7.0 is expected to call its encodings.
COMPAT_QUORIS="--port {port} --dir {dir} --enable-debug-command yes --enable-protected-configs yes --encoding-names 7.0"

# The folder of the suite; nothing when it cannot be had.
compat_suite() {
    local home=$CACHE/compat
    mkdir -p "$home"
    if [[ ! -f $home/ready ]]; then
        command -v tclsh >/dev/null || install_packages tcl >&2
        (cd "$home" && compat_download >&2) || return 1
        local binary
        for binary in redis-cli redis-server redis-benchmark redis-check-rdb redis-check-aof; do
            ln -sf "$(command -v $binary)" "$home"/redis/src/
        done
        touch "$home/ready"
    fi
    printf '%s' "$home/redis"
}

# Only in the present folder: the system's own lists of sources stay as they are.
compat_download() {
    local own=(-o "Dir::Etc::SourceList=$PWD/apt/sources.list" -o "Dir::Etc::SourceParts=$PWD/apt/parts"
        -o "Dir::State::Lists=$PWD/apt/lists" -o "Dir::Cache=$PWD/apt/cache")
    mkdir -p apt/parts apt/lists/partial apt/cache/archives/partial
    sed -n 's/^deb /deb-src /p' /etc/apt/sources.list >apt/sources.list 2>/dev/null || true
    local file
    for file in /etc/apt/sources.list.d/*.sources; do
        sed 's/^Types:.*/Types: deb-src/' "$file" >"apt/parts/${file##*/}"
    done
    timeout 300 apt-get "${own[@]}" update -qq || true
    timeout 300 apt-get "${own[@]}" source -qq --download-only redis || return 1
    rm -rf redis && mkdir redis
    tar xf redis_*.orig.tar.gz -C redis --strip-components 1
}

# For the gate, whose test of it (tests/compat/compat.rs) is skipped where there is no suite.
deps_compat() {
    compat_suite >/dev/null || note "NOT TESTED: Redis's own tests; the source package of redis cannot be fetched"
}

compat() { # nodes profile
    local nodes=$1 suite base ours server floor=98
    suite=$(compat_suite) || die "the source package of redis cannot be fetched"
    base=$CACHE/compat/base.json
    ours=$TARGET_DIR/compat-$nodes.json
    server="$PWD/$TARGET_DIR/$2/quoris server $COMPAT_QUORIS"
    if ((nodes > 1)); then
        server="$PWD/tests/compat/cluster.sh $PWD/$TARGET_DIR/$2/quoris $nodes {port} {dir} ${COMPAT_QUORIS#*\{dir\}}"
        floor=95
    fi
    if [[ ! -f $base ]]; then
        say "redis-server against its own tests, once"
        compat_run "$suite" "$base" "$COMPAT_REDIS"
    fi
    say "Quoris against Redis's own tests, $nodes node(s)"
    compat_run "$suite" "$ours" "$server" --left-out tests/compat/left-out.tsv
    python3 tests/compat/suite.py score "$ours" "$base" tests/compat/left-out.tsv --floor $floor
}

compat_run() { # suite out server [options]
    python3 tests/compat/suite.py run "$1" "$2.new" --units tests/compat/units-all --tags "$COMPAT_TAGS" \
        --server "$3" "${@:4}"
    mv "$2.new" "$2"
}
