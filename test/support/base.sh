# base.sh: what every script of this project begins with.  Source it first.
#
# Strict mode, words for people, and where things are.  Nothing here changes the machine.
#
#   PROJECT     the checkout that the script belongs to
#   PG_CONFIG   the PostgreSQL to build and test with; may be set by the caller
# shellcheck shell=bash disable=SC2034 # who sources this uses them

set -euo pipefail
umask 022
# PostgreSQL::Test takes LC_ALL away and keeps LANG
export LC_ALL=C.UTF-8 LANG=C.UTF-8

PROJECT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
PG_CONFIG=${PG_CONFIG:-pg_config}
export PG_CONFIG
JOBS=${JOBS:-$(nproc)}

say()
{
    printf '%s\n' "$*"
}

die()
{
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# Settings of the caller that would lead us to another server, or confuse the makes that we call.
forget_surroundings()
{
    local name

    for name in "${!PG@}"; do
        case $name in
            PG_CONFIG | PG_TEST_*) ;;
            *) unset "$name" ;;
        esac
    done
    unset MAKEFLAGS MFLAGS MAKELEVEL
}

# Run a command as root: directly, or through sudo.
as_root()
{
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "this needs root (or sudo): $*"
    fi
}

# Run a command whose output only matters when it fails.
quietly()
{
    local file log status=0

    # a file without a name: nothing is left behind, however we end
    file=$(mktemp)
    exec {log}<>"$file"
    rm -f "$file"
    "$@" >&"$log" 2>&1 || status=$?
    if [ "$status" -ne 0 ]; then
        say "This failed: $*" >&2
        tail -n 60 "/proc/self/fd/$log" >&2
    fi
    exec {log}>&-
    return "$status"
}

# Seconds since the epoch, with fractions.
now()
{
    printf '%s' "$EPOCHREALTIME"
}

# Seconds that have passed since a moment that now() gave, with one decimal.
seconds_since()
{
    awk -v a="$1" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f", b - a }'
}
