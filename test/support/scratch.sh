# scratch.sh: a directory that is gone afterwards, and the ordinary user who works in it.
#
# PostgreSQL refuses to run as root, and the checkout may lie where nobody but root can
# read.  So everything is built from a copy and run by an ordinary user:
#
#   SCRATCH            made with mktemp -d
#   SCRATCH/source     copy of the checkout, belongs to the caller; others may read it
#   SCRATCH/run (RUN)  belongs to the ordinary user; clusters, logs, home, temporary files
#   SCRATCH/small      where root can be had: a small file system for tests that fill it (small_disk_open)
#
# Whatever happens (error, Ctrl-C, kill), processes that live in SCRATCH are ended, what is mounted there is
# unmounted, and SCRATCH is removed.
# shellcheck shell=bash

SCRATCH=
SOURCE=
RUN=
# What is mounted in SCRATCH
SMALL_DISK=
# The words before a command that make it run as the ordinary user; none when we are one.
ORDINARY=()

# Long socket paths do not work, and a private TMPDIR of root's is of no use to others.
scratch_parent()
{
    local parent=${TMPDIR:-/tmp}

    if [ "$(id -u)" -eq 0 ] || [ "${#parent}" -gt 40 ]; then
        parent=/tmp
    fi
    say "$parent"
}

choose_ordinary_user()
{
    local user=postgres

    [ "$(id -u)" -eq 0 ] || return 0
    id "$user" >/dev/null 2>&1 || user=nobody
    ORDINARY=(setpriv --reuid="$user" --regid="$(id -g "$user")" --init-groups --inh-caps=-all)
}

scratch_open()
{
    SCRATCH=$(mktemp -d "$(scratch_parent)/pems_sync.XXXXXX")
    trap scratch_close EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    trap 'exit 129' HUP
    SCRATCH=$(cd "$SCRATCH" && pwd -P)
    SOURCE=$SCRATCH/source
    RUN=$SCRATCH/run
    choose_ordinary_user
    chmod 0711 "$SCRATCH"
    mkdir -p "$SOURCE" "$RUN/home" "$RUN/tmp" "$RUN/logs"
    if [ "${#ORDINARY[@]}" -gt 0 ]; then
        chown -R "$("${ORDINARY[@]}" id -u):$("${ORDINARY[@]}" id -g)" "$RUN"
    fi
}

# small_disk_open: a file system of 96 MB that belongs to the ordinary user; its name in PEMS_SMALL_DISK.  Where it
# cannot be mounted, the tests that need it are skipped.
small_disk_open()
{
    local disk=$SCRATCH/small

    unset PEMS_SMALL_DISK
    [ "$(id -u)" -eq 0 ] || sudo -n true 2>/dev/null || return 0
    mkdir "$disk"
    as_root mount -t tmpfs -o "size=96m,mode=0700,uid=$("${ORDINARY[@]}" id -u),gid=$("${ORDINARY[@]}" id -g)" tmpfs "$disk" \
        2>/dev/null || return 0
    SMALL_DISK=$disk
    export PEMS_SMALL_DISK=$disk
}

small_disk_close()
{
    [ -n "$SMALL_DISK" ] || return 0
    as_root umount "$SMALL_DISK" || as_root umount -l "$SMALL_DISK"
}

# become_user COMMAND...: in place of this process, as the ordinary user, in RUN.
become_user()
{
    cd "$RUN" || exit
    export HOME=$RUN/home TMPDIR=$RUN/tmp
    unset XDG_RUNTIME_DIR SUDO_USER SUDO_UID SUDO_GID SUDO_COMMAND
    exec "${ORDINARY[@]}" "$@"
}

as_user()
{
    (become_user "$@")
}

# supervised COMMAND...: waits so that a signal is noticed at once, not when the command ends.
supervised()
{
    "$@" </dev/null &
    wait $!
}

# Ids of the processes whose current directory lies in SCRATCH.
scratch_processes()
{
    local link directory pid

    for link in /proc/[0-9]*/cwd; do
        directory=$(readlink "$link" 2>/dev/null) || continue
        pid=${link#/proc/}
        pid=${pid%/cwd}
        case $directory in
            "$SCRATCH" | "$SCRATCH"/*) [ "$pid" = "$BASHPID" ] || say "$pid" ;;
        esac
    done
}

signal_processes()
{
    local signal=$1 pid

    shift
    for pid in "$@"; do
        kill -s "$signal" "$pid" 2>/dev/null || true
    done
}

# Wait for a number of seconds until no process is left.
wait_until_empty()
{
    local turns=$(($1 * 10))

    while [ -n "$(scratch_processes)" ]; do
        [ "$turns" -gt 0 ] || return 1
        turns=$((turns - 1))
        sleep 0.1
    done
}

# Servers are told to stop at once; all else is asked, and then not asked any more.
end_scratch_processes()
{
    local file processes

    [ -n "$(scratch_processes)" ] || return 0
    while read -r file; do
        processes=$(head -n 1 "$file" 2>/dev/null) || continue
        scratch_processes | grep -qx "$processes" && signal_processes QUIT "$processes"
    done < <(find "$RUN" -name postmaster.pid 2>/dev/null)
    mapfile -t processes < <(scratch_processes)
    signal_processes TERM "${processes[@]}"
    wait_until_empty 4 && return 0
    mapfile -t processes < <(scratch_processes)
    signal_processes KILL "${processes[@]}"
    wait_until_empty 2 || true
}

scratch_close()
{
    local status=$?

    trap '' INT TERM HUP
    trap - EXIT
    set +e
    cd /
    end_scratch_processes
    small_disk_close
    rm -rf "$SCRATCH"
    exit "$status"
}
