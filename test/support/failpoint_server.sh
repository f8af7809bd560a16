# failpoint_server.sh: a PostgreSQL of its own with a test build of the library, which can be made to
# die at named places (src/shared/failpoint.c).
#
# Such a build must never get into the server that users have.  PostgreSQL finds its files relative to
# its programs, so a copy of its directories is an installation by itself; the copy is taken when the
# extension is installed, and gets the other library.
# shellcheck shell=bash

# copy_server ROOT: the directories of the server, below ROOT at the same places.
copy_server()
{
    local root=$1 directory

    for directory in "$("$PG_CONFIG" --bindir)" "$("$PG_CONFIG" --pkglibdir)" "$("$PG_CONFIG" --sharedir)" \
        "$("$PG_CONFIG" --includedir)"; do
        mkdir -p "$(dirname "$root$directory")"
        cp -rL "$directory" "$(dirname "$root$directory")"
    done
    chmod -R a+rX "$root"
}

# PEMS_FAILPOINT_PG: the directory above its bin; the TAP tests that need it are skipped without.
build_failpoint_server()
{
    local root=$SCRATCH/postgresql

    say "Building a server with failpoints ..."
    mkdir "$SCRATCH/failpoints"
    copy_source "$SCRATCH/failpoints"
    quietly supervised make -C "$SCRATCH/failpoints" -j"$JOBS" --no-print-directory FAILPOINTS=1 WERROR=1 SANITIZE="$SANITIZE" pems_sync.so
    copy_server "$root"
    cp "$SCRATCH/failpoints/pems_sync.so" "$root$("$PG_CONFIG" --pkglibdir)/pems_sync.so"
    PEMS_FAILPOINT_PG=$root$(dirname "$("$PG_CONFIG" --bindir)")
    export PEMS_FAILPOINT_PG
}
