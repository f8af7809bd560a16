# fuzz.sh: libFuzzer throws damaged input at the parsers, for a few seconds each.
#
# `make fuzz` does the same for longer.
# shellcheck shell=bash

# Per target; two run at a time
FUZZ_SECONDS=${FUZZ_SECONDS:-6}
FUZZ_SEED=20250115

layer_fuzz()
{
    local names

    mapfile -t names < <(cd "$SOURCE/test/fuzz" && find . -name '*_fuzz.c' -printf 'fuzz/%f\n' | sed 's/\.c$//' | sort)
    [ "${#names[@]}" -gt 0 ] || return 0
    run_check "fuzz/build" build_source fuzz-targets
    run_tests fuzz_target "${names[@]}"
}

# A corpus that is in the repository is where the search begins; new finds stay in the scratch
# directory.
fuzz_target()
{
    local name=${1#fuzz/} corpus

    corpus=$SOURCE/test/fuzz/corpus/${name%_fuzz}
    as_user mkdir -p "$RUN/fuzz/$name"
    [ -d "$corpus" ] || corpus=
    check_as_tap "$1" as_user "$SOURCE/build/$1" -max_total_time="$FUZZ_SECONDS" -seed="$FUZZ_SEED" \
        -timeout=5 -rss_limit_mb=1024 -max_len=4096 -print_final_stats=0 -verbosity=0 \
        -artifact_prefix="$RUN/fuzz/$name." "$RUN/fuzz/$name" ${corpus:+"$corpus"}
}
