#!/usr/bin/env bash
# run.sh: the benchmark.  `make bench` calls it; docs/PERFORMANCE.md says what each line measures.
#
# Installs packages that are missing, builds and installs the extension, installs the peers from the npm
# registry into a scratch directory, and measures line by line, each on a cluster and with a fake PEMS of
# its own.  Prints one table, and writes the same to bench/results/latest.json.  Nothing is left but that
# and the installed extension.
#
#   ONLY=drain,latency     only these lines
#   RUNS=3                 measured runs of the lines that are repeated; the median counts
#   SHARED_BUFFERS=1GB     of the clusters
#   PG_CONFIG=path         the PostgreSQL to use (pg_config)
# Each file of bench/lines names its own variables at its top.
. "$(dirname "$0")/../test/support/base.sh"
. "$PROJECT/test/support/packages.sh"
. "$PROJECT/test/support/scratch.sh"
. "$PROJECT/test/support/build.sh"
. "$PROJECT/test/support/cluster.sh"
. "$PROJECT/test/support/fake_pems.sh"
. "$PROJECT/bench/lib.sh"
. "$PROJECT/bench/peers.sh"
. "$PROJECT/bench/drains.sh"
. "$PROJECT/bench/depth.sh"

RUNS=${RUNS:-3}
SHARED_BUFFERS=${SHARED_BUFFERS:-1GB}

# Names of the lines, in their order: 01_drain.sh has line_drain
LINES_THERE=()
for file in "$PROJECT"/bench/lines/*.sh; do
    # shellcheck source=/dev/null
    . "$file"
    file=${file##*/??_}
    LINES_THERE+=("${file%.sh}")
done

# The lines to run: all, or those that ONLY names.
chosen_lines()
{
    local line

    for line in ${ONLY//,/ }; do
        [[ " ${LINES_THERE[*]} " == *" $line "* ]] || die "ONLY: there is no line $line; lines: ${LINES_THERE[*]}"
    done
    for line in "${LINES_THERE[@]}"; do
        case ,$ONLY, in
            ,, | *,"$line",*) say "$line" ;;
        esac
    done
}

build_and_install()
{
    say "Building and installing for $("$PG_CONFIG" --version) ..."
    copy_source
    build_source all programs
    install_source
    quietly cc -O2 -Wall -o "$SOURCE/build/curl_limit" "$SOURCE/bench/curl_limit.c" -lcurl
}

describe_machine()
{
    local processor memory version
    processor=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)
    memory=$(awk '/^MemTotal/ { printf "%.0f GB", $2 / 1048576 }' /proc/meminfo)
    version=$(sed -n "s/^default_version = '\(.*\)'/\1/p" "$PROJECT/pems_sync.control")

    say ""
    say "Machine: $(nproc) processors ($processor), $memory, $(uname -sr)"
    say "Versions: pems_sync $version, $("$PG_CONFIG" --version), libcurl $(curl-config --version | sed 's/.* //')," \
        "Node.js $(node --version), $(peer_versions)"
    say "Runs: $RUNS, the median counts; ratio: ours / theirs"
    say ""
}

main()
{
    local lines line begin

    ONLY=${ONLY:-}
    forget_surroundings
    lines=$(chosen_lines)
    ensure_packages bench
    scratch_open
    find_postgresql
    build_and_install
    install_peers
    : >"$SCRATCH/results"
    for line in $lines; do
        begin=$(now)
        say "$line"
        "line_$line"
        say "  ($(seconds_since "$begin") s)"
    done
    describe_machine
    print_table
}

main
