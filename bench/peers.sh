# peers.sh: the peers: installed from the npm registry into the scratch directory, each with a database of its
# own in the cluster of the line.
#
#   CONCURRENCY=64    requests that each peer has under way at a time, and ours (pems_sync.max_in_flight)
# shellcheck shell=bash

CONCURRENCY=${CONCURRENCY:-64}
PEER_PID=

# As the caller, whose settings of npm know the way to the registry
install_peers()
{
    say "Installing the peers: $(peer_versions) ..."
    PEERS=$SCRATCH/peers
    cp -R "$SOURCE/bench/peers" "$PEERS"
    (cd "$PEERS" && quietly npm install --no-package-lock --ignore-scripts --no-audit --no-fund) ||
        die "the peers could not be installed"
    chmod -R a+rX "$PEERS"
}

# They are pinned, so package.json knows them.
peer_versions()
{
    sed -n 's/^    "\([a-z-]*\)": "\([0-9.]*\)".*/\1 \2/p' "$PROJECT/bench/peers/package.json" | paste -sd, | sed 's/,/, /g'
}

peer_name()
{
    case $1 in
        graphile) say graphile-worker ;;
        boss) say pg-boss ;;
    esac
}

# peer_sql PEER [OPTION]...
peer_sql()
{
    local peer=$1

    shift
    PGDATABASE=$peer sql "$@"
}

# peer_program PEER WORD...: the ordinary user runs it, in place of this process.
peer_program()
{
    local peer=$1

    shift
    export PGDATABASE=$peer PEMS_URL=$FAKE_URL/api TOKEN CONCURRENCY
    become_user node "$PEERS/$peer.js" "$@"
}

# peer_database PEER: with bench.edit, the table that the results are recorded in
peer_database()
{
    value "CREATE DATABASE $1"
    peer_sql "$1" -f "$SOURCE/bench/peers/setup.sql"
    (peer_program "$1" migrate) >/dev/null || die "$1: no schema"
}

# peer_set PEER NAME N: a set of edits, the same as bench.make_set() makes for us.
peer_set()
{
    peer_sql "$1" -c "SELECT bench.make_set('$2', $3)" >/dev/null
}

# peer_start PEER: its process, for PEER_PID
peer_start()
{
    local answer=$RUN/logs/$1.out end=$((SECONDS + 60))

    : >"$answer"
    (peer_program "$1" work) >"$answer" 2>&1 &
    PEER_PID=$!
    until grep -q '^ready' "$answer"; do
        if [ "$SECONDS" -ge "$end" ] || ! kill -0 "$PEER_PID" 2>/dev/null; then
            cat "$answer" >&2
            die "$1 did not start"
        fi
        sleep 0.05
    done
}

peer_stop()
{
    kill "$PEER_PID" 2>/dev/null || true
    wait "$PEER_PID" 2>/dev/null || true
    PEER_PID=
}

# peer_enqueue PEER NAME FIRST LAST: these edits of a set, in one transaction that also leaves the mark NAME-FIRST.
peer_enqueue()
{
    if [ "$1" = graphile ]; then
        peer_sql graphile -v set_name="$2" -v first="$3" -v last="$4" -f "$SOURCE/bench/peers/graphile_enqueue.sql" >/dev/null
    else
        (peer_program "$1" enqueue "$2" "$3" "$4")
    fi
}
