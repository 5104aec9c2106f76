#!/bin/sh
# The replica of a pair, in place of the postgres image's own start script: on an empty data folder it copies
# the primary, then it runs. A folder that was promoted stays what it is. Arguments are given to the server.
# Needs: PGDATA, PRIMARY_HOST, REPLICA_NAME; optional: PRIMARY_PORT, SECRETS (the folder of the password file).
set -eu

secrets=${SECRETS:-/run/secrets}
port=${PRIMARY_PORT:-5432}
umask 077

# libpq reads the password from here, so that it is in no argument list and in no file of the data folder.
PGPASSFILE=$(mktemp -d)/pgpass
export PGPASSFILE
printf '*:*:*:replicator:%s\n' "$(sed 's/[\\:]/\\&/g' "$secrets/postgres_replicator")" >"$PGPASSFILE"
upstream="host=$PRIMARY_HOST port=$port user=replicator application_name=$REPLICA_NAME passfile=$PGPASSFILE"

if [ ! -s "$PGDATA/PG_VERSION" ]; then
    # A copy that broke off is made anew; it gets its name when it is whole.
    rm -rf "$PGDATA.new"
    mkdir -p "$(dirname "$PGDATA")"
    pg_basebackup --dbname="$upstream" --no-password --pgdata="$PGDATA.new" --slot=replica --wal-method=stream \
        --checkpoint=fast
    touch "$PGDATA.new/standby.signal"
    [ ! -d "$PGDATA" ] || rmdir "$PGDATA"
    mv "$PGDATA.new" "$PGDATA"
fi

# The primary's own settings came with the copy: a replica has nobody to wait for, and once promoted neither.
exec postgres -D "$PGDATA" "$@" -c primary_conninfo="$upstream" -c primary_slot_name=replica \
    -c synchronous_standby_names=
