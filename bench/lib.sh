# lib.sh: what the lines of the benchmark share: clusters, records, PEMS, waiting, measuring, results.
# shellcheck shell=bash

TOKEN=benchmark-token
# Longest wait for anything; seconds
PATIENCE=${PATIENCE:-1800}

# ---------- SQL ----------

# sql [OPTION]...: as the administrator, in the database of the line; prints bare values.
sql()
{
    as_user psql -X -q -A -t -v ON_ERROR_STOP=1 "$@"
}

# value QUERY: its one value
value()
{
    sql -c "$1"
}

# call FUNCTION CALL: one whose result nobody looks at
call()
{
    sql -c "SELECT $1" >/dev/null
}

# line_sql NAME [OPTION]...: a file of bench/lines
line_sql()
{
    local name=$1

    shift
    sql -f "$SOURCE/bench/lines/$name" "$@"
}

# ---------- a cluster of the line's own ----------

# bench_cluster NAME: with database bench, where the extension is; more configuration from standard input.
# All durable: fsync and synchronous_commit are on, as PostgreSQL has them.
bench_cluster()
{
    CLUSTER=$1
    cluster_create "$CLUSTER" < <(
        cat <<CONFIGURATION
shared_preload_libraries = 'pems_sync, pg_stat_statements'
max_connections = 200
shared_buffers = '$SHARED_BUFFERS'
max_wal_size = '8GB'
checkpoint_timeout = '15min'
track_commit_timestamp = on
pg_stat_statements.track = none
pems_sync.databases = 'bench'
pems_sync.key_file = '$RUN/keyring'
pems_sync.allowed_hosts = '127.0.0.1'
pems_sync.allow_insecure_loopback = on
CONFIGURATION
        cat
    )
    [ -f "$RUN/keyring" ] || as_user "$PEMS_CREDENTIAL" keygen "$RUN/keyring" >/dev/null
    cluster_start "$CLUSTER"
    value 'CREATE DATABASE bench'
    export PGDATABASE=bench PGOPTIONS='-c client_min_messages=warning'
    quietly sql -f "$SOURCE/bench/setup.sql"
    wait_sql 'SELECT pid IS NOT NULL FROM pems_worker'
}

# bench_end: the cluster and its data go, and the fake PEMS with them.
bench_end()
{
    fake_stop
    cluster_stop "$CLUSTER"
    as_user rm -rf "$RUN/$CLUSTER"
}

# setting NAME VALUE: changes a setting of the running cluster, and waits until the postmaster has told everybody.
setting()
{
    value "ALTER SYSTEM SET $1 = '$2'"
    value 'SELECT pg_reload_conf()' >/dev/null
    wait_sql "SELECT current_setting('$1') = '$2'"
}

# What the worker itself complains about, for error messages
worker_error()
{
    value "SELECT coalesce('; the worker says: ' || last_error, '') FROM pems_worker" 2>/dev/null || true
}

worker_pid()
{
    value 'SELECT pid FROM pems_worker'
}

# ---------- PEMS ----------

# pems_with QUERY: starts the fake PEMS with all organizations and the records that the query returns, one
# JSON object a row, and stores credentials for it.
pems_with()
{
    {
        printf '{"organizations": ['
        sql -c "COPY (SELECT CASE WHEN row_number() OVER () > 1 THEN ',' ELSE '' END
                    || json_build_object('code', code, 'token', '$TOKEN') FROM organization) TO STDOUT"
        printf '], "records": ['
        sql -c "COPY (SELECT CASE WHEN row_number() OVER () > 1 THEN ',' ELSE '' END || r FROM ($1) q (r)) TO STDOUT"
        printf ']}'
    } | as_user tee "$RUN/records.json" >/dev/null
    as_user rm -f "$RUN/fake_pems.log"
    fake_start "$RUN/records.json" --log-memory 1000
    set_credentials
}

# set_credential CODE
set_credential()
{
    as_user "$PEMS_CREDENTIAL" set --organization "$1" --url "$FAKE_URL/api" <<<"$TOKEN" >/dev/null
}

# One for each organization
set_credentials()
{
    local code

    for code in $(value 'SELECT code FROM organization ORDER BY code'); do
        set_credential "$code"
    done
}

# pems_forget: PEMS is back at the records that it began with, and its log is empty.
pems_forget()
{
    : | as_user tee "$FAKE_LOG" >/dev/null
    fake_control POST reset >/dev/null
}

# pems_changes: writes that took effect since pems_forget
pems_changes()
{
    fake_control GET stats | sed -n 's/.*"changes": *\([0-9]*\).*/\1/p'
}

# expect_in_pems PREFIX COUNT: PEMS took exactly so many writes, one of each record PREFIX-1 to PREFIX-COUNT.
expect_in_pems()
{
    local found
    found=$(grep '"kind": *"change"' "$FAKE_LOG" | sed 's/.*"pfaId": *"\([^"]*\)".*/\1/' | sort |
        awk -v prefix="$1-" '{ all++ } $0 != last && index($0, prefix) == 1 { kinds++ } { last = $0 } END { print all + 0, kinds + 0 }')

    [ "$found" = "$2 $2" ] || die "PEMS should have seen $2 records $1 written, each once; writes and records seen: $found"
}

# ---------- waiting ----------

# wait_sql CONDITION: until a condition in SQL is true
wait_sql()
{
    local end=$((SECONDS + PATIENCE))

    until [ "$(value "SELECT coalesce(($1), false)")" = t ]; do
        [ "$SECONDS" -lt "$end" ] || die "waited too long for: $1$(worker_error)"
        sleep 0.1
    done
}

# Nothing is pending or under way any more.
wait_drained()
{
    wait_sql "NOT EXISTS (SELECT FROM pfa_write_queue WHERE open)"
}

# ---------- measuring ----------

# cpu_seconds PID: user and system time of one process, without its children
cpu_seconds()
{
    awk -v ticks="$(getconf CLK_TCK)" '{ sub(/^.*\) /, ""); printf "%.3f\n", ($12 + $13) / ticks }' "/proc/$1/stat"
}

# cpu_of_cluster: the same of all processes of the cluster, those that have ended included
cpu_of_cluster()
{
    local postmaster
    postmaster=$(head -n 1 "$RUN/$CLUSTER/data/postmaster.pid")

    # processes of others end while we look
    { cat /proc/[0-9]*/stat 2>/dev/null || true; } | awk -v top="$postmaster" -v ticks="$(getconf CLK_TCK)" '
        { pid = $1; sub(/^.*\) /, "") }
        pid == top { sum += $12 + $13 + $14 + $15 }
        $2 == top { sum += $12 + $13 }
        END { printf "%.3f\n", sum / ticks }'
}

# own_memory PID: anonymous memory in MB, which is what the process has for itself; shared buffers are not in it
# (The worker does not let its own user look at its memory and descriptors.)
own_memory()
{
    # shellcheck disable=SC2016 # the inner program's
    as_root awk '/^Anonymous:/ { printf "%.1f\n", $2 / 1024 }' "/proc/$1/smaps_rollup"
}

# connections_to_pems PID: how many that process has open
connections_to_pems()
{
    local port
    port=$(printf ':%04X' "${FAKE_URL##*:}")

    {
        awk -v port="$port" 'index($3, port) == 9 && $4 == "01" { print "pems", $10 }' /proc/net/tcp
        as_root find "/proc/$1/fd" -lname 'socket:*' -printf '%l\n' | tr -dc '0-9\n'
    } | awk '$1 == "pems" { to_pems[$2] = 1; next } $1 in to_pems { n++ } END { print n + 0 }'
}

# calculate EXPRESSION: of numbers, as awk does it
calculate()
{
    awk "BEGIN { printf \"%.6g\", $1 }"
}

# thousands NUMBER: with commas, for people
thousands()
{
    sed ':again; s/\B[0-9]\{3\}\>/,&/; t again' <<<"$1"
}

# median: of the numbers on standard input
median()
{
    sort -g | awk '{ v[NR] = $1 } END { if (NR == 0) exit 1; printf "%.6g\n", NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}

# alternate RUN A B: A and B in turn; the second first in every second run
alternate()
{
    if [ $(($1 % 2)) -eq 1 ]; then
        "$2"
        "$3"
    else
        "$3"
        "$2"
    fi
}

# note LINE: what one run gave, for who watches
note()
{
    say "    $*"
}

# ---------- results ----------

# result LINE NAME MEASURE PEER OURS THEIRS UNIT [COMPARISON GOAL]
# THEIRS may be empty.  The comparison is of what the goal speaks of: "ratio>=", "ratio<=" (ours divided by
# theirs), "ours<=", "ours>="; a row without is there for information.
result()
{
    local line=$1 name=$2 measure=$3 peer=$4 ours=$5 theirs=$6 unit=$7 comparison=${8:-} goal=${9:-}

    awk -v line="$line" -v name="$name" -v measure="$measure" -v peer="$peer" -v ours="$ours" -v theirs="$theirs" \
        -v unit="$unit" -v comparison="$comparison" -v goal="$goal" '
        function text(s) { gsub(/["\\]/, "\\\\&", s); return s == "" ? "null" : "\"" s "\"" }
        function number(n) { return n == "" ? "null" : sprintf("%.6g", n) }
        BEGIN {
            ratio = theirs == "" || theirs + 0 == 0 || ours == "" ? "" : ours / theirs
            met = "null"
            if (comparison != "") {
                found = comparison ~ /^ratio/ ? ratio : ours
                met = found != "" && (comparison ~ />=$/ ? found + 0 >= goal + 0 : found + 0 <= goal + 0) ? "true" : "false"
            }
            printf "{\"line\": %d, \"name\": %s, \"measure\": %s, \"peer\": %s, \"ours\": %s, \"theirs\": %s, \"ratio\": %s, " \
                "\"goal\": %s, \"comparison\": %s, \"unit\": %s, \"met\": %s}\n",
                line, text(name), text(measure), text(peer), number(ours), number(theirs), number(ratio), number(goal),
                text(comparison), text(unit), met
        }' >>"$SCRATCH/results"
    write_results
    note "$measure: $ours $unit${theirs:+; $peer: $theirs}"
}

# By line; the rows of one in the order in which they came
sorted_results()
{
    sort -s -t : -k 2n "$SCRATCH/results"
}

# bench/results/latest.json is complete after each row, so that an interrupted run leaves what it has.
write_results()
{
    local directory=$PROJECT/bench/results

    mkdir -p "$directory"
    awk 'BEGIN { print "[" } NR > 1 { print "," } { printf "  %s", $0 } END { print "\n]" }' < <(sorted_results) \
        >"$directory/latest.json.new"
    mv "$directory/latest.json.new" "$directory/latest.json"
}

# The table, from the same rows
print_table()
{
    local format='%-4s %-9s %-56s %-26s %10s %10s %8s  %-13s %s\n'

    # shellcheck disable=SC2059 # one format for head and rows
    printf "$format" line name measure 'peer' ours theirs ratio goal met
    awk -v format="$format" '
        function member(name,   s) {
            s = $0
            if (!sub("^.*\"" name "\": ", "", s)) return ""
            if (s ~ /^"/) { s = substr(s, 2); sub(/"(, "|}$).*/, "", s) } else sub(/[,}].*/, "", s)
            return s == "null" ? "-" : s
        }
        function figure(n) { return n == "-" ? n : n + 0 >= 1000 ? sprintf("%d", n) : sprintf("%.4g", n) }
        {
            goal = member("comparison") == "-" ? "-" : member("comparison") " " member("goal")
            met = member("met")
            printf format, member("line"), member("name"), member("measure") " (" member("unit") ")", member("peer"),
                figure(member("ours")), figure(member("theirs")), figure(member("ratio")), goal,
                met == "true" ? "met" : met == "false" ? "NOT MET" : "-"
        }' < <(sorted_results)
}
