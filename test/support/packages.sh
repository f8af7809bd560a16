# packages.sh: the Debian packages that the project needs, and how they get installed.
#
# This is the only list of them.  When nothing is missing, nothing is called: the
# second run works without a network.
# shellcheck shell=bash

# To build the extension and its programs, and to run the demo
BUILD_PACKAGES=(make gcc libc6-dev libcurl4-openssl-dev libsodium-dev libpq-dev
    libmicrohttpd-dev libgnutls28-dev perl curl)
# To run the tests: PostgreSQL::Test needs IPC::Run; openssl makes certificates; faketime sets a server's clock;
# clang's libFuzzer feeds the parsers
TEST_PACKAGES=(libipc-run-perl openssl faketime clang libclang-rt-dev)
# What lint uses.  A machine that cannot have them tests without.
LINT_PACKAGES=(clang-format clang-tidy cppcheck shellcheck)

# Chosen when neither a PostgreSQL nor the distribution says which version
FALLBACK_POSTGRESQL=15

has_package()
{
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# The major version to work with: the one of pg_config, of an installed server, or of the
# distribution.
postgresql_version()
{
    local version

    if [ -f "$("$PG_CONFIG" --pgxs 2>/dev/null)" ]; then
        version=$("$PG_CONFIG" --version | sed 's/^PostgreSQL \([0-9]*\).*/\1/')
    else
        version=$(find /usr/lib/postgresql -path '*/bin/postgres' 2>/dev/null |
            sed 's|^/usr/lib/postgresql/\([0-9]*\)/.*|\1|' | sort -n | tail -n 1)
    fi
    if [ -z "$version" ]; then
        version=$(apt-cache depends postgresql 2>/dev/null |
            sed -n 's/^.*Depends: postgresql-\([0-9]*\)$/\1/p' | head -n 1)
    fi
    say "${version:-$FALLBACK_POSTGRESQL}"
}

# PGXS alone does not tell: Debian has it in the client's package, the headers in the developers'.
can_build_extensions()
{
    [ -f "$("$PG_CONFIG" --pgxs 2>/dev/null)" ] && [ -f "$("$PG_CONFIG" --includedir-server)/postgres.h" ]
}

# The packages of PostgreSQL that are missing, judged by their files: the PostgreSQL that
# PG_CONFIG names need not come from a package.
missing_postgresql()
{
    local version
    version=$(postgresql_version)

    if ! can_build_extensions; then
        say "postgresql-$version postgresql-server-dev-$version"
        [ "$1" = test ] && say "postgresql-$version-pgtap"
        return 0
    fi
    [ -x "$("$PG_CONFIG" --bindir)/postgres" ] || say "postgresql-$version"
    if [ "$1" = test ] && [ ! -f "$("$PG_CONFIG" --sharedir)/extension/pgtap.control" ]; then
        say "postgresql-$version-pgtap"
    fi
}

# The peers that `make bench` measures run on Node.js, wherever that comes from.
missing_node()
{
    command -v node >/dev/null || say nodejs
    command -v npm >/dev/null || say npm
}

# What is missing for a purpose: build, test or bench.
missing_packages()
{
    local purpose=$1 package
    local wanted=("${BUILD_PACKAGES[@]}")

    [ "$purpose" != test ] || wanted+=("${TEST_PACKAGES[@]}")
    [ "$purpose" != bench ] || missing_node
    for package in "${wanted[@]}"; do
        has_package "$package" || say "$package"
    done
    missing_postgresql "$purpose"
}

missing_lint_packages()
{
    local package

    for package in "${LINT_PACKAGES[@]}"; do
        has_package "$package" || say "$package"
    done
}

# Debian's server package makes a cluster "main" and starts it.  Nobody asked us for that
# one: a setting that is there only while we install says no.
CLUSTER_SETTING=/etc/postgresql-common/createcluster.d/pems_sync-setup.conf

forbid_default_cluster()
{
    as_root mkdir -p "${CLUSTER_SETTING%/*}"
    echo 'create_main_cluster = false' | as_root tee "$CLUSTER_SETTING" >/dev/null
}

allow_default_cluster()
{
    as_root rm -f "$CLUSTER_SETTING"
}

list_clusters()
{
    if command -v pg_lsclusters >/dev/null; then
        pg_lsclusters --no-header | awk '{ print $1, $2 }'
    fi
}

# Should a cluster have been made all the same, it does not stay running.
stop_new_clusters()
{
    local before=$1 version name

    list_clusters | while read -r version name; do
        grep -qxF "$version $name" <<<"$before" ||
            as_root pg_ctlcluster "$version" "$name" stop -m fast 2>/dev/null || true
    done
}

apt()
{
    as_root env DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 \
        apt-get -o DPkg::Lock::Timeout=300 -qq "$@"
}

# A process of its own, so that the setting goes however the installation ends.
install_packages()
(
    clusters=$(list_clusters)

    trap allow_default_cluster EXIT
    forbid_default_cluster
    quietly apt install -y --no-install-recommends "$@"
    stop_new_clusters "$clusters"
)

require_debian()
{
    command -v apt-get >/dev/null || die "this is no Debian or Ubuntu: install what $(basename "${BASH_SOURCE[0]}") lists by hand"
}

# ensure_packages PURPOSE: build (also enough for the demo), test or bench.
ensure_packages()
{
    local purpose=$1 missing optional=

    require_debian
    missing=$(missing_packages "$purpose" | xargs)
    [ "$purpose" != test ] || optional=$(missing_lint_packages | xargs)
    if [ -z "$missing$optional" ]; then
        say "Packages: all there."
        return 0
    fi
    say "Packages: installing ${missing:-$optional} ..."
    quietly apt update || say "The list of packages could not be updated; going on with the old one."
    # asked again: only now apt may know which PostgreSQL the distribution has
    missing=$(missing_packages "$purpose" | xargs)
    # shellcheck disable=SC2086 # a list of words
    [ -z "$missing" ] || install_packages $missing || die "the packages could not be installed"
    # shellcheck disable=SC2086
    [ -z "$optional" ] || install_packages $optional || say "Without all of: $optional. Lint does less."
    hash -r
    [ -z "$(missing_packages "$purpose")" ] || die "still missing: $(missing_packages "$purpose" | xargs)"
}
