#!/bin/sh
# Run once by the postgres image, on an empty data folder, before the server can be reached from outside.
# Makes the roles, the database and the replica's slot. From the next start on, commits wait for the replica:
# during this run there is none yet. psql reads the passwords itself, so that they are in no argument list.
# Needs: REPLICA_NAME, SECRETS (the folder of the password files), and the image's POSTGRES_USER and PGPASSWORD.
set -e  # and not -u: the image runs this file inside its own shell where it is not executable

export SECRETS="${SECRETS:-/run/secrets}"

psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" --dbname postgres \
    --set replica="${REPLICA_NAME:?}" <<'EOS'
\set replicator_password `cat "$SECRETS"/postgres_replicator`
\set postorder_password `cat "$SECRETS"/postgres_postorder`
CREATE ROLE replicator LOGIN REPLICATION PASSWORD :'replicator_password';
-- REPLICATION: slots move by logical replication, for which one primary reads from another as this role.
CREATE ROLE postorder LOGIN REPLICATION PASSWORD :'postorder_password';
GRANT pg_monitor, pg_create_subscription TO postorder;
-- A promotion by hand fences the old primary with this setting.
GRANT ALTER SYSTEM ON PARAMETER default_transaction_read_only TO postorder;
CREATE DATABASE postorder OWNER postorder;
SELECT FROM pg_create_physical_replication_slot('replica', true);
SELECT format('ALTER SYSTEM SET synchronous_standby_names = %L', format('FIRST 1 (%I)', :'replica')) \gexec
\connect postorder
CREATE EXTENSION pg_stat_statements;
GRANT EXECUTE ON FUNCTION pg_promote(boolean, integer), pg_reload_conf() TO postorder;
EOS
