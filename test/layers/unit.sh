# unit.sh: what is pure, and http and secrets, without a server, under AddressSanitizer and UBSan.
# shellcheck shell=bash

layer_unit()
{
    local names

    mapfile -t names < <(cd "$SOURCE/test/unit" && find . -name '*_test.c' -printf 'unit/%P\n' | sed 's/\.c$//' | sort)
    [ "${#names[@]}" -gt 0 ] || return 0
    run_check "unit/build" build_source unit-tests WERROR=1
    run_tests unit_program "${names[@]}"
}

unit_program()
{
    as_user env ASAN_OPTIONS="${ASAN_OPTIONS:-}" "$SOURCE/build/$1"
}
