# fake_pems.sh: starts and stops the fake PEMS (test/mock_pems), and talks to its control calls.
#
#   FAKE_URL    its address, http://127.0.0.1:PORT
#   FAKE_LOG    its log of requests and changes, JSON lines
# shellcheck shell=bash

FAKE_URL=
FAKE_LOG=
FAKE_PID=

# fake_start RECORDS_FILE [OPTION]...: on a free port; ends with this script, however that ends.
fake_start()
{
    local records=$1 answer=$RUN/fake_pems.out turns=100

    shift
    FAKE_LOG=$RUN/fake_pems.log
    become_user "$MOCK_PEMS" 0 "$records" --log "$FAKE_LOG" --die-with-parent "$@" >"$answer" 2>&1 &
    FAKE_PID=$!
    until grep -q ' ready on ' "$answer"; do
        turns=$((turns - 1))
        if [ "$turns" -eq 0 ] || ! kill -0 "$FAKE_PID" 2>/dev/null; then
            cat "$answer" >&2
            die "the fake PEMS did not start"
        fi
        sleep 0.05
    done
    FAKE_URL=http://$(sed -n 's/^.* ready on //p' "$answer")
}

fake_stop()
{
    [ -n "$FAKE_PID" ] || return 0
    kill "$FAKE_PID" 2>/dev/null || true
    wait "$FAKE_PID" 2>/dev/null || true
    FAKE_PID=
}

# fake_control METHOD CALL [JSON]: prints the answer.
fake_control()
{
    local method=$1 call=$2 body=()

    [ $# -lt 3 ] || body=(-H 'Content-Type: application/json' --data-binary "$3")
    curl -fsS --noproxy '*' --max-time 20 -X "$method" "${body[@]}" "$FAKE_URL/_control/$call" ||
        die "the fake PEMS does not answer ($method $call)"
}
