# results.sh: runs test programs, counts their results, shows what failed.
#
# A test program prints TAP (or pg_regress's lines).  Its whole output goes to RUN/logs;
# people see one line when it passes, and what it said when it fails.
# shellcheck shell=bash

PASSED=0
FAILED=0
SKIPPED=0

# Tests that run at the same time.  Not more by default: some measure time.
TEST_JOBS=${TEST_JOBS:-2}

# Lines of a failed program that are shown.
SHOWN_LINES=150

# count_results NAME LOG STATUS SECONDS
count_results()
{
    local name=$1 log=$2 status=$3 seconds=$4 passed failed skipped word=ok

    read -r passed failed skipped < <(awk -v status="$status" -f "$PROJECT/test/support/tap.awk" "$log")
    PASSED=$((PASSED + passed))
    FAILED=$((FAILED + failed))
    SKIPPED=$((SKIPPED + skipped))
    [ "$failed" -eq 0 ] || word=FAILED
    printf '  %-6s  %-34s %5s passed' "$word" "$name" "$passed"
    [ "$failed" -eq 0 ] || printf ', %s failed' "$failed"
    [ "$skipped" -eq 0 ] || printf ', %s skipped' "$skipped"
    printf '   %s s\n' "$seconds"
    [ "$failed" -eq 0 ] || show_failure "$log" "$status"
}

# A short output whole; of a long one the failed tests with their comments (or, where no test says
# that it failed, the beginning), and the end.
show_failure()
{
    local log=$1 status=$2

    {
        if [ "$(wc -l <"$log")" -le "$SHOWN_LINES" ]; then
            cat "$log"
        else
            failed_tests "$log" | sed -n "1,${SHOWN_LINES}p"
            say "[...]"
            tail -n 15 "$log"
        fi
        [ "$status" -eq 0 ] || say "exit status $status"
    } | sed 's/^/        | /'
}

failed_tests()
{
    if grep -q '^ *not ok' "$1"; then
        awk '/^ *ok/ { bad = 0 } /^ *not ok/ { bad = 1 } bad' "$1"
    else
        cat "$1"
    fi
}

log_of()
{
    say "$RUN/logs/${1//\//_}.log"
}

# run_to_log NAME COMMAND...: output, status and time go to files, for show_result.
run_to_log()
{
    local log status=0 begin
    log=$(log_of "$1")

    shift
    begin=$(now)
    "$@" >"$log" 2>&1 </dev/null || status=$?
    say "$status $(seconds_since "$begin")" >"$log.new"
    mv "$log.new" "$log.status"
}

show_result()
{
    local name=$1 log status seconds
    log=$(log_of "$name")

    read -r status seconds <"$log.status"
    count_results "$name" "$log" "$status" "$seconds"
}

# run_test NAME COMMAND...
run_test()
{
    supervised run_to_log "$@"
    show_result "$1"
}

# run_tests RUNNER NAME...: RUNNER, a function, gets a name and runs that test.  TEST_JOBS at a
# time; results are shown in the order of the names.
run_tests()
{
    local runner=$1 name next=1 names=("$@")

    shift
    for name in "$@"; do
        while [ "$(jobs -rp | wc -l)" -ge "$TEST_JOBS" ]; do
            wait -n || true
        done
        run_to_log "$name" "$runner" "$name" &
        while [ -e "$(log_of "${names[next]}").status" ]; do
            show_result "${names[next]}"
            next=$((next + 1))
        done
    done
    wait
    for name in "${names[@]:next}"; do
        show_result "$name"
    done
}

# run_check NAME COMMAND...: a command that prints no TAP, only an exit status.
run_check()
{
    local name=$1

    shift
    run_test "$name" check_as_tap "$name" "$@"
}

check_as_tap()
{
    local name=$1 status=0

    shift
    "$@" || status=$?
    if [ "$status" -eq 0 ]; then
        say "ok 1 - $name"
    else
        say "not ok 1 - $name (exit status $status)"
    fi
}

# keep_logs: what is needed to understand a failure outlives the scratch directory.
keep_logs()
{
    local kept=$PROJECT/build/test-failure

    rm -rf "$kept"
    mkdir -p "$kept" || return 0
    cp -R "$RUN/logs" "$kept/" 2>/dev/null || true
    (cd "$RUN" && find . -path '*/tmp_check/log/*' -type f -size -2M -exec cp --parents {} "$kept" \;) || true
    say "Logs: $kept"
}

summarize()
{
    [ "$SKIPPED" -eq 0 ] || say "$SKIPPED skipped"
    [ "$FAILED" -eq 0 ] || keep_logs
    say "$PASSED passed, $FAILED failed"
    [ "$FAILED" -eq 0 ]
}
