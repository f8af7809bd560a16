# cluster.sh: throw-away PostgreSQL clusters in the scratch directory.
#
# A cluster listens on a socket in its own directory and on no port, so it meets nobody.  After
# cluster_start, psql and the other programs reach it without options (PGHOST, PGUSER).
# shellcheck shell=bash

# cluster_create NAME: reads more configuration from standard input.
cluster_create()
{
    local directory=$RUN/$1

    as_user mkdir "$directory"
    quietly as_user initdb -D "$directory/data" -U postgres --auth=trust --encoding=UTF8 \
        --locale=C --no-sync
    {
        cat <<CONFIGURATION
listen_addresses = ''
unix_socket_directories = '$directory'
shared_preload_libraries = 'pems_sync'
restart_after_crash = on
fsync = on
max_connections = 40
timezone = 'UTC'
log_timezone = 'UTC'
CONFIGURATION
        cat
    } | as_user tee -a "$directory/data/postgresql.conf" >/dev/null
}

# cluster_start NAME
cluster_start()
{
    local directory=$RUN/$1

    quietly as_user pg_ctl -D "$directory/data" -l "$directory/log" -w start || {
        tail -n 20 "$directory/log" >&2
        return 1
    }
    export PGHOST=$directory PGUSER=postgres PGPORT=5432 PGDATABASE=postgres
}

# cluster_stop NAME
cluster_stop()
{
    quietly as_user pg_ctl -D "$RUN/$1/data" -m fast -w stop
    unset PGHOST PGUSER PGPORT PGDATABASE
}
