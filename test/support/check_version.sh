#!/usr/bin/env bash
# check_version.sh: the version stands in pems_sync.control; every file that repeats it must agree.
. "$(dirname "$0")/base.sh"

cd "$PROJECT"
VERSION=$(sed -n "s/^default_version = '\(.*\)'/\1/p" pems_sync.control)
PROBLEMS=0

# agree WHERE FOUND
agree()
{
    [ "$2" != "$VERSION" ] || return 0
    say "$1 says ${2:-nothing}, pems_sync.control says $VERSION"
    PROBLEMS=$((PROBLEMS + 1))
}

check_meta()
{
    local line

    while read -r line; do
        agree META.json "$line"
    done < <(sed -n 's/^ *"version": "\([0-9.]*\)".*/\1/p' META.json)
    agree 'META.json, file' "$(sed -n 's|^ *"file": "sql/pems_sync--\(.*\)\.sql".*|\1|p' META.json)"
}

# The newest entry comes first: a heading with a version number.
check_changelog()
{
    local file

    for file in CHANGELOG*; do
        [ -e "$file" ] || file=/dev/null
        agree CHANGELOG "$(sed -n 's/^#*.*\b\([0-9]\+\.[0-9]\+\.[0-9]\+\)\b.*/\1/p' "$file" | head -n 1)"
    done
}

# A step from an older version ends at this one, or at one that another step leads on from.
check_upgrades()
{
    local file target

    for file in sql/upgrade/pems_sync--*--*.sql; do
        [ -e "$file" ] || continue
        target=${file##*--}
        target=${target%.sql}
        compgen -G "sql/upgrade/pems_sync--$target--*.sql" >/dev/null || agree "$file" "$target"
    done
}

check_meta
check_changelog
check_upgrades
[ "$PROBLEMS" -eq 0 ]
