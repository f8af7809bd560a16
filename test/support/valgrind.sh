# valgrind.sh: the suite with servers that run under valgrind's memcheck.
#
#   VALGRIND=1 make test ONLY=regress,isolation,pgtap,tap
#
# The servers come from a copy of PostgreSQL's directories in which "postgres" is a script that begins
# with valgrind; what initdb calls runs as it is.  A finding counts when the library of the extension is in its stack: the
# server itself, which Debian does not build for valgrind, has its own; those that are known stand in valgrind.supp.  What tests expect to happen soon
# may take longer than they wait (PEMS_PATIENCE multiplies that); the findings are what matters.
# shellcheck shell=bash

use_valgrind_server()
{
    local bin

    command -v valgrind >/dev/null || die "VALGRIND=1 needs the package valgrind"
    say "Copying the server for valgrind ..."
    copy_server "$SCRATCH/valgrind"
    bin=$SCRATCH/valgrind$("$PG_CONFIG" --bindir)
    PG_CONFIG=$bin/pg_config
    mv "$bin/postgres" "$bin/postgres.real"
    cat >"$bin/postgres" <<SCRIPT
#!/bin/sh
case "\$1" in
    --boot | --single | --check | -V | --version | -C | --describe-config) exec -a "\$0" "$bin/postgres.real" "\$@" ;;
esac
exec valgrind --quiet --leak-check=no --undef-value-errors=yes --error-limit=no --num-callers=40 --trace-children=no \\
    --suppressions="$SCRATCH/valgrind/suppressions" --log-file="$RUN/valgrind/%p" "$bin/postgres.real" "\$@"
SCRIPT
    sed -i '1s/sh/bash/' "$bin/postgres"
    chmod a+rx "$bin/postgres"
    cp "$PROJECT/test/support/valgrind.supp" "$SCRATCH/valgrind/suppressions"
    chmod a+r "$SCRATCH/valgrind/suppressions"
    as_user mkdir "$RUN/valgrind"
    export PEMS_PATIENCE=8 PG_TEST_TIMEOUT_DEFAULT=900
}

# Blocks of valgrind's reports (between empty lines) that name our library.
findings_of_ours()
{
    find "$RUN/valgrind" -type f -size +0 -exec cat {} + |
        awk '/^==[0-9]+== *$/ { if (block ~ /pems_sync/) print block; block = ""; next } { block = block $0 "\n" } END { if (block ~ /pems_sync/) print block }'
}

count_findings()
{
    local findings

    say "valgrind"
    findings=$(findings_of_ours)
    if [ -z "$findings" ]; then
        say "  ok      $(find "$RUN/valgrind" -type f | wc -l) processes, no finding in the library"
        PASSED=$((PASSED + 1))
    else
        say "  FAILED"
        sed -n '1,300s/^/        | /p' <<<"$findings"
        FAILED=$((FAILED + 1))
    fi
}
