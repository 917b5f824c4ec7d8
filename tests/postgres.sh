#!/bin/sh
# A throwaway PostgreSQL cluster for the tests, reachable through a unix socket and by nothing else.
#
#   tests/postgres.sh start DIR    makes it below DIR, starts it, prints its URL (for TEST_POSTGRES)
#   tests/postgres.sh pause DIR    stops the server and keeps its data, as an outage would
#   tests/postgres.sh resume DIR   starts it again
#   tests/postgres.sh stop DIR     stops it and removes what `start` made
#
# DIR must be short (a socket's path has at most 107 bytes) and, when run as root, reachable by an unprivileged user,
# because the server refuses to run as root: `mktemp -d` gives such a folder.
set -eu

fail() {
    echo "tests/postgres.sh: $*" >&2
    exit 1
}

[ $# -eq 2 ] || fail "usage: tests/postgres.sh start|pause|resume|stop DIR"
action=$1
mkdir -p "$2"
dir=$(cd "$2" && pwd)

bin=
if command -v initdb >/dev/null 2>&1; then
    bin=$(dirname "$(readlink -f "$(command -v initdb)")")
else
    for candidate in /usr/lib/postgresql/*/bin; do # in ascending order: the newest wins
        [ -x "$candidate/initdb" ] && bin=$candidate
    done
fi
[ -n "$bin" ] || fail "initdb is neither in PATH nor in /usr/lib/postgresql/*/bin: install postgresql"

user=
if [ "$(id -u)" -eq 0 ]; then
    for candidate in postgres nobody; do
        if id "$candidate" >/dev/null 2>&1; then
            user=$candidate
            break
        fi
    done
    [ -n "$user" ] || fail "run as root, and there is neither a user postgres nor nobody to run the server as"
fi

# Runs a command as the unprivileged user, from a folder that this user can enter.
unprivileged() {
    if [ -z "$user" ]; then
        (cd / && "$@")
    elif command -v setpriv >/dev/null 2>&1; then
        (cd / && setpriv --reuid "$user" --regid "$(id -g "$user")" --clear-groups env HOME=/ "$@")
    elif command -v runuser >/dev/null 2>&1; then
        (cd / && runuser -u "$user" -- env HOME=/ "$@")
    else
        fail "run as root, and there is neither setpriv nor runuser"
    fi
}

case $action in
start)
    [ "${#dir}" -le 85 ] || fail "$dir is too long for a socket"
    [ ! -e "$dir/data" ] || fail "$dir/data exists: stop that cluster first"
    if [ -n "$user" ]; then
        chown "$user" "$dir"
        unprivileged test -w "$dir" || fail "the user $user cannot reach $dir"
    fi
    unprivileged "$bin/initdb" -D "$dir/data" -U sentinel_admin --auth=trust --encoding=UTF8 --locale=C --no-sync \
        >"$dir/initdb.log" 2>&1 || { cat "$dir/initdb.log" >&2; fail "initdb failed"; }
    cat >>"$dir/data/postgresql.conf" <<CONF
listen_addresses = ''
unix_socket_directories = '$dir'
max_connections = 300
# Without fsync a commit survives the server's death, not the machine's. Asynchronous commits would not survive that
# either: Sentinel turns them off for itself, and a test that stops the server counts.
fsync = off
synchronous_commit = off
full_page_writes = off
autovacuum = off
CONF
    unprivileged "$bin/pg_ctl" -D "$dir/data" -l "$dir/data/server.log" -w -t 60 start >/dev/null 2>&1 \
        || { cat "$dir/data/server.log" >&2; fail "the server did not start"; }
    # The socket's folder as the host of a URL, every byte of it written as %XX.
    host=$(printf '%s' "$dir" | od -An -v -tx1 | tr -d ' \n' | sed 's/../%&/g')
    echo "postgres://sentinel_admin@$host:5432/postgres"
    ;;
pause)
    unprivileged "$bin/pg_ctl" -D "$dir/data" -m immediate -w stop >/dev/null
    ;;
resume)
    unprivileged "$bin/pg_ctl" -D "$dir/data" -l "$dir/data/server.log" -w -t 60 start >/dev/null
    ;;
stop)
    if [ -d "$dir/data" ]; then
        unprivileged "$bin/pg_ctl" -D "$dir/data" -m immediate -w stop >/dev/null 2>&1 || true
        rm -rf "$dir/data" "$dir/initdb.log"
    fi
    ;;
*) fail "usage: tests/postgres.sh start|pause|resume|stop DIR" ;;
esac
