#!/bin/sh
# The namespace of the runs; the worker registers its search attributes by itself. Repeating it changes nothing.
set -eu
# By number: the command line waits five seconds for a name where containers have no outside name server.
server=$(getent hosts temporal | { read -r number _; echo "$number"; }):7233
tries=60
until temporal operator cluster health --address "$server" >/dev/null 2>&1; do
    tries=$((tries - 1))
    [ "$tries" -gt 0 ] || { echo "Temporal does not answer at $server" >&2; exit 1; }
    sleep 1
done
temporal operator namespace describe -n default --address "$server" >/dev/null 2>&1 ||
    temporal operator namespace create -n default --retention 72h --address "$server"
until temporal workflow list -n default --limit 1 --address "$server" >/dev/null 2>&1; do
    tries=$((tries - 1))
    [ "$tries" -gt 0 ] || { echo "namespace default does not appear" >&2; exit 1; }
    sleep 1
done
