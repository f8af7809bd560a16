# build.sh: the checkout's copy in the scratch directory, built and installed.
#
# The checkout itself is never touched, so a run leaves no objects in it, and two
# runs (or an editor) do not disturb each other.
# shellcheck shell=bash

# copy_source [DIRECTORY]
# shellcheck disable=SC2120 # callers may leave it out
copy_source()
{
    local directory=${1:-$SOURCE}

    tar -C "$PROJECT" -cf - --exclude=./.git --exclude=./build --exclude='*.o' --exclude='*.so' \
        --exclude='./tmp_check*' --exclude=./results . | tar -C "$directory" --no-same-owner -xf -
    chmod -R u+w,a+rX "$directory"
}

# build_source [MAKE ARGUMENT]...
build_source()
{
    quietly supervised make -C "$SOURCE" -j"$JOBS" --no-print-directory "$@"
}

# The server's directories belong to root, unless the PostgreSQL is the caller's own.
install_source()
{
    local directory writable=true

    for directory in "$("$PG_CONFIG" --pkglibdir)" "$("$PG_CONFIG" --sharedir)/extension" \
        "$("$PG_CONFIG" --bindir)"; do
        [ -w "$directory" ] || writable=false
    done
    if "$writable"; then
        quietly make -C "$SOURCE" --no-print-directory install
    else
        quietly as_root env PATH="$PATH" make -C "$SOURCE" --no-print-directory \
            PG_CONFIG="$PG_CONFIG" install
    fi
}

# Where PGXS and the test programs of PostgreSQL are.
find_postgresql()
{
    PG_BIN=$("$PG_CONFIG" --bindir)
    PG_TESTS=$(cd "$(dirname "$("$PG_CONFIG" --pgxs)")/../../src/test" && pwd)
    PATH=$PG_BIN:$PATH
    MOCK_PEMS=$SOURCE/build/mock_pems
    PEMS_CREDENTIAL=$SOURCE/build/pems-credential
    export PG_BIN PG_TESTS PATH MOCK_PEMS PEMS_CREDENTIAL
}
