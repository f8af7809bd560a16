# lib.sh: what the steps of the demo share: SQL, tables, waiting, expectations.
# shellcheck shell=bash

STEP=0
EXPECTED=0
HELD=0
# Longest wait for anything; seconds
PATIENCE=30

# ---------- SQL ----------

# sql STATEMENTS: as the administrator; prints bare values.
sql()
{
    as_user psql -X -q -A -t -v ON_ERROR_STOP=1 -c "$1"
}

# app STATEMENTS: as the application's role, which has pems_sync_user and nothing more.
app()
{
    as_user psql -X -q -A -t -v ON_ERROR_STOP=1 -U vanguard -c "$1"
}

# sql_file NAME [OPTION]...: a file of this directory.
sql_file()
{
    local name=$1

    shift
    as_user psql -X -q -v ON_ERROR_STOP=1 "$@" -f "$SOURCE/demo/$name"
}

# table QUERY: its result, for people.
table()
{
    as_user psql -X -q -v ON_ERROR_STOP=1 --pset footer=off --pset null='-' -c "$1" | indent
}

# The JSON that pems_commit() and others return, one key a line.
answer()
{
    sql "SELECT format('    %s: %s', key, value) FROM jsonb_each(\$answer\$$1\$answer\$)"
}

# ---------- words ----------

indent()
{
    sed '/^ *$/d; s/^/    /'
}

# heading TITLE: a step begins.
heading()
{
    local title

    STEP=$((STEP + 1))
    title="$STEP. $1"
    say ""
    say "$title"
    say "${title//?/-}"
}

# expect SENTENCE FOUND WANTED
expect()
{
    EXPECTED=$((EXPECTED + 1))
    if [ "$2" = "$3" ]; then
        HELD=$((HELD + 1))
        say "  ok      $1"
    else
        say "  NOT ok  $1"
        say "          found \"$2\", expected \"$3\""
    fi
}

# expect_true SENTENCE CONDITION: a condition in SQL
expect_true()
{
    expect "$1" "$(sql "SELECT coalesce(($2), false)")" t
}

conclude()
{
    if [ "$HELD" -eq "$EXPECTED" ]; then
        say "All $EXPECTED expectations held."
    else
        say "$HELD of $EXPECTED expectations held, $((EXPECTED - HELD)) did not."
        return 1
    fi
}

# ---------- waiting ----------

# wait_for CONDITION: until a condition in SQL is true; false after PATIENCE seconds.
wait_for()
{
    local end=$((SECONDS + PATIENCE))

    until [ "$(sql "SELECT coalesce(($1), false)")" = t ]; do
        [ "$SECONDS" -lt "$end" ] || return 1
        sleep 0.1
    done
}

# wait_finished MODIFICATION...: until nothing more happens to them by itself.
wait_finished()
{
    wait_for "SELECT bool_and(sync_status NOT IN ('queued', 'syncing')) FROM pfa_modification
              WHERE id = ANY ('{$(IFS=,; printf '%s' "$*")}')" || true
}

# One line that says how far the queue is; on a terminal it is written over.
show_progress()
{
    local done=$1 total=$2 width=40 filled bar

    filled=$((total > 0 ? done * width / total : width))
    bar=$(printf "%${filled}s" | tr ' ' '#')$(printf "%$((width - filled))s" | tr ' ' '.')
    if [ -t 1 ]; then
        printf '\r    [%s] %d of %d edits in PEMS ' "$bar" "$done" "$total"
    else
        printf '    %d of %d edits in PEMS\n' "$done" "$total"
    fi
}

# watch_queue TOTAL: shows progress until the queue is empty.
watch_queue()
{
    local total=$1 waiting end=$((SECONDS + PATIENCE * 2)) pause=1

    [ ! -t 1 ] || pause=0.2
    while [ "$SECONDS" -lt "$end" ]; do
        waiting=$(sql "SELECT (s ->> 'totalQueued')::integer + (s ->> 'processing')::integer FROM pems_sync_status() s")
        show_progress "$((total - waiting))" "$total"
        [ "$waiting" -gt 0 ] || break
        sleep "$pause"
    done
    [ ! -t 1 ] || printf '\n'
}

# watch_pulls: shows how far the pulls are until none waits or runs; how many lines that were is in WATCHED.
watch_pulls()
{
    local end=$((SECONDS + PATIENCE)) line shown=

    WATCHED=0
    while [ "$SECONDS" -lt "$end" ]; do
        line=$(sql "SELECT string_agg(format('%s: %s, %s pages, %s records%s', o.code, p.phase, p.pages, p.records,
                                             ', ' || p.percent || ' %'), '; ' ORDER BY o.code DESC)
                    FROM pems_pulls p JOIN organization o ON o.id = p.organization_id WHERE p.job_id IS NOT NULL")
        [ -n "$line" ] || break
        if [ "$line" != "$shown" ]; then
            say "    $line"
            WATCHED=$((WATCHED + 1))
        fi
        shown=$line
        sleep 0.2
    done
}

# pull_now ORGANIZATION: reads what has changed in PEMS, and waits for it.
pull_now()
{
    local job

    say "    SELECT pems_pull('$1');"
    job=$(app "SELECT pems_pull('$1') ->> 'jobId'")
    wait_for "SELECT pems_job('$job') ->> 'status' <> 'running'" || true
}

# ---------- PEMS ----------

# What PEMS has now becomes visible in demo.pems_record.
look_into_pems()
{
    fake_control GET records >"$SCRATCH/pems_records.json"
    as_user tee "$RUN/pems_records.json" <"$SCRATCH/pems_records.json" >/dev/null
}

# edit_in_pems CODE PFA_ID USER CHANGES: somebody works in PEMS itself.
edit_in_pems()
{
    fake_control POST records \
        "{\"organizationCode\": \"$1\", \"pfaId\": \"$2\", \"by\": \"$3\", \"changes\": $4}" >/dev/null
}

# draft ID CODE PFA_ID USER DELTA [REASON]: a user's edit on the version that the mirror has.
draft()
{
    app "INSERT INTO pfa_modification (id, organization_id, pfa_id, base_version, delta, created_by, change_reason)
         SELECT '$1', m.organization_id, m.pfa_id, m.version, '$5', '$4', '${6:-}'
         FROM pfa_mirror m JOIN organization o ON o.id = m.organization_id
         WHERE o.code = '$2' AND m.pfa_id = '$3'"
}

# commit CODE MODIFICATION: what the backend does when the user presses the button.
commit()
{
    app "SELECT pems_commit(o.id, ARRAY['$2']) FROM organization o WHERE o.code = '$1'"
}

# conflict_of MODIFICATION: the id of its unresolved conflict.
conflict_of()
{
    sql "SELECT id FROM pems_open_conflicts WHERE modification_id = '$1'"
}

# show_conflict CONFLICT: the fields side by side, as pems_conflict() has them for a dialogue.
show_conflict()
{
    table "SELECT f ->> 'field' AS field, f ->> 'base' AS \"as it was\", f ->> 'local' AS ours, f ->> 'pems' AS \"in PEMS\",
                  CASE WHEN (f ->> 'conflicting')::boolean THEN 'yes' ELSE 'no' END AS conflicting
           FROM jsonb_array_elements(pems_conflict('$1') -> 'fields') f"
}

# resolve MODIFICATION RESOLUTION USER [MERGED_DATA]: shows the call and makes it, as the user does.
resolve()
{
    local call merged=

    [ $# -lt 4 ] || merged="merged_data => '$4', "
    call="pems_resolve_conflict('$(conflict_of "$1")', '$2', ${merged}resolved_by => '$3')"
    say "    SELECT $call;"
    app "SELECT $call" >/dev/null
}

# attempts MODIFICATION: its requests as one line: "PUT 503, GET 200, PUT 200"
attempts()
{
    sql "SELECT string_agg(http_method || ' ' || coalesce(http_status::text, 'no answer'), ', ' ORDER BY at)
         FROM pems_audit_log WHERE modification_id = '$1' AND http_method IS NOT NULL"
}

# show_attempts MODIFICATION: the same as a table.
show_attempts()
{
    table "SELECT attempt, http_method AS method, http_status AS status, latency_ms AS \"ms\",
                  coalesce(error_code, 'ok') AS outcome
           FROM pems_audit_log WHERE modification_id = '$1' AND http_method IS NOT NULL ORDER BY at"
}

sync_status()
{
    sql "SELECT sync_status FROM pfa_modification WHERE id = '$1'"
}

# in_pems CODE PFA_ID FIELD
in_pems()
{
    look_into_pems
    sql "SELECT data ->> '$3' FROM demo.pems_record WHERE code = '$1' AND pfa_id = '$2'"
}
