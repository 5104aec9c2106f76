"""What the PostgreSQL servers of the stack have in common, whoever runs them: settings, roles, access."""

from collections.abc import Mapping

SUPERUSER = "postgres"
USER = "postorder"
DATABASE = "postorder"
REPLICATION_USER = "replicator"

SETTINGS = {
    "unix_socket_directories": "",
    "password_encryption": "scram-sha-256",
    "max_connections": "100",
    "superuser_reserved_connections": "3",
    "shared_buffers": "512MB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "wal_level": "logical",
    # A move of slots has a link each way, and two more while it copies.
    "max_wal_senders": "40",
    "max_replication_slots": "40",
    "max_active_replication_origins": "40",
    "max_worker_processes": "40",
    "max_logical_replication_workers": "24",
    "max_slot_wal_keep_size": "4GB",
    "hot_standby": "on",
    "hot_standby_feedback": "on",
    "wal_receiver_status_interval": "1s",
    "track_io_timing": "on",
    "shared_preload_libraries": "pg_stat_statements",
    "autovacuum_naptime": "15s",
    "idle_in_transaction_session_timeout": "30s",
    "tcp_keepalives_idle": "5",
    "tcp_user_timeout": "10s",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
    # No statement, parameter or row reaches the log: they hold personal data.
    "log_min_error_statement": "panic",
    "log_parameter_max_length_on_error": "0",
    "log_error_verbosity": "terse",
}
INITDB_OPTIONS = {
    "auth": "scram-sha-256",
    "data-checksums": "",
    "encoding": "UTF8",
    "locale-provider": "builtin",
    "builtin-locale": "C.UTF-8",
    "locale": "C",
    "no-sync": "",  # the server itself syncs what matters
}
# Run in the application's database. A promotion by hand needs the two functions.
DATABASE_STATEMENTS = (
    "CREATE EXTENSION pg_stat_statements",
    f"GRANT EXECUTE ON FUNCTION pg_promote(boolean, integer), pg_reload_conf() TO {USER}",
)
HBA = (
    "host all all 127.0.0.1/32 scram-sha-256",
    f"host replication {REPLICATION_USER} 127.0.0.1/32 scram-sha-256",
)


def application_statements(passwords: Mapping[str, str]) -> tuple[str, ...]:
    """Return what makes the application's role and database."""
    return (
        # Slots move by logical replication: a primary reads from another one as this role.
        f"CREATE ROLE {USER} LOGIN REPLICATION PASSWORD '{passwords[USER]}'",
        f"GRANT pg_monitor, pg_create_subscription TO {USER}",
        # A promotion by hand fences the old primary with this setting.
        f"GRANT ALTER SYSTEM ON PARAMETER default_transaction_read_only TO {USER}",
        f"CREATE DATABASE {DATABASE} OWNER {USER}",
    )
