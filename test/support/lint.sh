#!/usr/bin/env bash
# lint.sh: what can be said about the sources without running them.
#
#   lint.sh                  all checks whose tool is installed
#   lint.sh format | tidy | cppcheck | shell
#   lint.sh available CHECK  is its tool installed?
. "$(dirname "$0")/base.sh"

cd "$PROJECT"

sources()
{
    find src bin bench test/unit test/fuzz test/mock_pems test/support -name '*.c' | sort
}

sources_and_headers()
{
    find src bin bench test/unit test/fuzz test/mock_pems test/support -name '*.[ch]' | sort
}

scripts()
{
    find . -name '*.sh' -not -path './build/*' -o -path ./.ci/run | sort
}

tool_of()
{
    case $1 in
        format) say clang-format ;;
        tidy) say clang-tidy ;;
        cppcheck) say cppcheck ;;
        shell) say shellcheck ;;
        *) die "unknown check: $1" ;;
    esac
}

available()
{
    command -v "$(tool_of "$1")" >/dev/null
}

compiler_flags()
{
    local version
    version=$(sed -n "s/^default_version = '\(.*\)'/\1/p" pems_sync.control)

    say "-std=gnu11 -D_GNU_SOURCE -DPEMS_SYNC_VERSION=\"$version\""
    say "-I. -Isrc -Itest/unit -Itest/mock_pems -isystem $("$PG_CONFIG" --includedir-server) -isystem $("$PG_CONFIG" --includedir)"
}

check_format()
{
    sources_and_headers | xargs clang-format --dry-run --Werror
}

check_tidy()
{
    # shellcheck disable=SC2046
    sources | xargs -P "$JOBS" -I{} clang-tidy --quiet --warnings-as-errors='*' {} -- $(compiler_flags)
}

check_cppcheck()
{
    # cppcheck does not read the headers of the system: what matters of them comes here
    # shellcheck disable=SC2046
    cppcheck --quiet --error-exitcode=1 --std=c11 --inline-suppr -j "$JOBS" \
        --enable=warning,performance,portability --suppress=missingIncludeSystem \
        -D_GNU_SOURCE -DPEMS_SYNC_VERSION='""' -DLIBCURL_VERSION_NUM=0x080000 \
        '-Dforeach(cell,list)=for(cell=list_head(list);cell;cell=lnext(list,cell))' -Isrc -Itest/unit -Itest/mock_pems $(sources)
}

check_shell()
{
    scripts | xargs shellcheck -x -P SCRIPTDIR
}

check_all()
{
    local check failed=0

    for check in format tidy cppcheck shell; do
        if ! available "$check"; then
            say "$check: not installed, left out"
        elif "check_$check"; then
            say "$check: ok"
        else
            say "$check: FAILED"
            failed=1
        fi
    done
    return "$failed"
}

case ${1:-all} in
    available) available "$2" ;;
    *) tool_of "${1:-format}" >/dev/null; "check_${1:-all}" ;;
esac
