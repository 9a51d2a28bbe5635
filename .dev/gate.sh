# The steps of `./dev test`: each is timed, a failing one does not keep the others from running.
# Sourced by ./dev.

STEPS=()
FAILED=0

gate_begin() {
    JUNIT=$TARGET_DIR/nextest/default/junit.xml
    rm -f "$JUNIT"
    TREE_BEFORE=$(tree_state)
    GATE_START=$SECONDS
}

# Runs a command as a step. It may leave a word in VERDICT that replaces "ok" in the table.
step() { # name command…
    local name=$1 start=$SECONDS status=0
    shift
    VERDICT=ok
    say "$name"
    "$@" || status=$?
    if ((status != 0)); then
        VERDICT="FAILED ($status)"
        FAILED=1
    fi
    STEPS+=("$(printf '%-16s %5d s   %s' "$name" $((SECONDS - start)) "$VERDICT")")
}

gate_end() {
    say "time per step"
    printf '   %s\n' "${STEPS[@]}" >&2
    printf '   %-16s %5d s\n' "together" $((SECONDS - GATE_START)) >&2
    closing_line
    ((FAILED == 0)) || die "the gate is red"
}

# The tests' own count once more, at the very end, where people and machines look for it.
closing_line() {
    [[ -f $JUNIT ]] || return 0
    local head tests failures errors
    head=$(grep -m1 '<testsuites' "$JUNIT")
    tests=$(attribute tests "$head")
    failures=$(attribute failures "$head")
    errors=$(attribute errors "$head")
    printf '\ntests: %d passed, %d failed\n' $((tests - failures - errors)) $((failures + errors))
}

attribute() { # name xml-element
    [[ $2 =~ \ $1=\"([0-9]+)\" ]] && printf '%s' "${BASH_REMATCH[1]}"
}

# ---- the steps -----------------------------------------------------------------------------------------

nextest() {
    cargo nextest run --locked --cargo-profile "$PROFILE" --no-tests=fail "$@"
}

docs() {
    RUSTDOCFLAGS=-Dwarnings cargo doc --workspace --no-deps --locked --profile "$PROFILE"
}

# Doc tests cost a link each and nextest does not run them: only started when there are any.
has_doc_tests() {
    git ls-files -z '*.rs' 2>/dev/null |
        xargs -0 -r awk '
            FNR == 1 { open = 0 }
            /^[ \t]*\/\/[\/!][ \t]*```/ { if (!open && $0 !~ /```(text|ignore|toml|sh|console)/) found = 1; open = !open }
            END { exit !found }'
}

deny() {
    "$CARGO_DENY" --locked check --hide-inclusion-graph bans licenses sources
}

# The advisory database is a git repository. Where it cannot be reached the table says so: an unchecked
# database is never reported as a pass.
advisories() {
    if ! timeout 120 "$CARGO_DENY" --locked fetch db >/dev/null 2>&1; then
        VERDICT="NOT CHECKED: the advisory database cannot be fetched from here"
        note "$VERDICT"
        return 0
    fi
    "$CARGO_DENY" --locked check --disable-fetch advisories
}

tree_state() {
    git status --porcelain 2>/dev/null || true
}

tree_is_unchanged() {
    local now
    now=$(tree_state)
    [[ $now == "$TREE_BEFORE" ]] || {
        diff <(printf '%s\n' "$TREE_BEFORE") <(printf '%s\n' "$now") >&2
        note "the gate changed the tree"
        return 1
    }
}
