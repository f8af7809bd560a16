# sanitizers.sh: the suite with a library that is built for AddressSanitizer and UndefinedBehaviorSanitizer.
#
# SANITIZE=1 make test ONLY=regress,isolation,pgtap,tap
#
# The server is a copy of its directories below SCRATCH, because such a library must never get into the real one, and
# AddressSanitizer must be the first library of each process that loads it.  Leaks are not looked for: PostgreSQL
# frees by contexts, and at its end not at all.  A finding ends its process, which fails the test that ran, and is a
# failed test by itself.
# shellcheck shell=bash

use_sanitized_server()
{
    say "Copying the server for the sanitizers ..."
    copy_server "$SCRATCH/sanitized"
    PG_CONFIG=$SCRATCH/sanitized$("$PG_CONFIG" --bindir)/pg_config
}

# From here on every process begins with the sanitizer's library.
preload_sanitizer()
{
    as_user mkdir "$RUN/sanitizer"
    export ASAN_OPTIONS=detect_leaks=0:abort_on_error=1:detect_stack_use_after_return=0:log_path=$RUN/sanitizer/asan
    export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1:log_path=$RUN/sanitizer/ubsan
    LD_PRELOAD=$(cc -print-file-name=libasan.so)
    export LD_PRELOAD
}

count_findings()
{
    local findings

    unset LD_PRELOAD
    findings=$(find "$RUN/sanitizer" -type f | wc -l)
    if [ "$findings" -eq 0 ]; then
        say "  ok      sanitizers: no finding"
        PASSED=$((PASSED + 1))
    else
        say "  FAILED  sanitizers: $findings findings"
        find "$RUN/sanitizer" -type f -exec head -n 40 {} + | sed 's/^/        | /'
        FAILED=$((FAILED + 1))
    fi
}
