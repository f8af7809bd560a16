# checked_server.sh: the suite with servers that look for mistakes with memory while they run.
#
#   SANITIZE=1 make test ONLY=regress,isolation,pgtap,tap    AddressSanitizer and UndefinedBehaviorSanitizer; twice as slow
#   VALGRIND=1 make test ONLY=tap TAP_FILES='001*'           valgrind's memcheck; thirty times slower
#
# The server comes from a copy of PostgreSQL's directories, because such a library must never get into the real one; in the
# copy "postgres" is a script that starts the server with what it needs.  What initdb and pg_ctl ask of it runs as it is.  A
# finding ends its process (SANITIZE), which fails the test that ran; and any finding is a failed test by itself.
# What tests expect to happen soon may take longer than they wait: PEMS_PATIENCE multiplies that.
# shellcheck shell=bash

# The words that are put before the server's own; see start_script.
CHECKED=()

use_checked_server()
{
    local bin

    [ -n "$SANITIZE$VALGRIND" ] || return 0
    say "Copying the server ..."
    copy_server "$SCRATCH/checked"
    bin=$SCRATCH/checked$("$PG_CONFIG" --bindir)
    PG_CONFIG=$bin/pg_config
    as_user mkdir "$RUN/findings"
    if [ -n "$SANITIZE" ]; then use_sanitizer; else use_valgrind; fi
    mv "$bin/postgres" "$bin/postgres.real"
    start_script >"$bin/postgres"
    chmod a+rx "$bin/postgres"
    export PG_TEST_TIMEOUT_DEFAULT=900
}

# PostgreSQL finds its files by the name that it is called by, and "pg_ctl restart" starts what has that name; a copy of this
# directory is to find its own.  (valgrind gives its program no other name: there, what was restarted runs without it.)
start_script()
{
    cat <<SCRIPT
#!/bin/bash
here=\$(cd "\$(dirname "\$0")" && pwd)
case "\$1" in
    --boot | --single | --check | -V | --version | -C | --describe-config) exec -a "\$here/postgres" "\$here/postgres.real" "\$@" ;;
esac
${CHECKED[*]} "\$here/postgres.real" "\$@"
SCRIPT
}

# The sanitizer must be the first library of the process.  Its start meets the constructors of other libraries, which is why
# a second one keeps gettext out of its way (sanitizer_start.c); what a test preloads comes after them.  Leaks are not looked
# for: PostgreSQL frees by contexts, and at its end not at all.  Signals that tests send are no findings.
use_sanitizer()
{
    local library=$SCRATCH/sanitizer_start.so

    quietly cc -shared -fPIC -O1 -o "$library" "$PROJECT/test/support/sanitizer_start.c"
    chmod a+r "$library"
    CHECKED=("LD_PRELOAD=\"$(cc -print-file-name=libasan.so):$library\${LD_PRELOAD:+:\$LD_PRELOAD}\""
        "ASAN_OPTIONS=detect_leaks=0:abort_on_error=1:handle_segv=0:handle_abort=0:quarantine_size_mb=8:log_path=$RUN/findings/asan"
        "UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1:log_path=$RUN/findings/ubsan"
        exec -a "\"\$here/postgres\"")
    export PEMS_PATIENCE=3
}

use_valgrind()
{
    command -v valgrind >/dev/null || die "VALGRIND=1 needs the package valgrind"
    cp "$PROJECT/test/support/valgrind.supp" "$SCRATCH/valgrind.supp"
    chmod a+r "$SCRATCH/valgrind.supp"
    CHECKED=(exec valgrind --quiet --leak-check=no --error-limit=no --num-callers=40 --trace-children=no
        "--suppressions=$SCRATCH/valgrind.supp" "--log-file=$RUN/findings/%p")
    export PEMS_PATIENCE=8
}

# Of valgrind's reports (between empty lines) those count that name our library: the server itself, which Debian
# does not build for valgrind, has its own, known ones (valgrind.supp).
findings()
{
    if [ -n "$SANITIZE" ]; then
        find "$RUN/findings" -type f -exec head -n 60 {} +
    else
        find "$RUN/findings" -type f -size +0 -exec cat {} + |
            awk '/^==[0-9]+== *$/ { if (block ~ /pems_sync/) print block; block = ""; next } { block = block $0 "\n" } END { if (block ~ /pems_sync/) print block }'
    fi
}

count_findings()
{
    local found

    [ -n "$SANITIZE$VALGRIND" ] || return 0
    found=$(findings)
    say "memory"
    if [ -z "$found" ]; then
        say "  ok      no finding"
        PASSED=$((PASSED + 1))
    else
        say "  FAILED"
        sed -n '1,300s/^/        | /p' <<<"$found"
        FAILED=$((FAILED + 1))
    fi
}
