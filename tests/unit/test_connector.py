"""Which server a DSN is for, and which errors mean that it may be another one by now."""

import asyncpg
import pytest

from pipeline.storage.connector import Wants, dsn_by_address, has_timed_out, is_distrusted, wanted


class Lent:
    """As much of a connection as the question needs."""

    def __init__(self, *, ended_here: bool = False, closed: bool = False) -> None:
        self.ended_here = ended_here
        self._closed = closed

    def is_closed(self) -> bool:
        return self._closed


def test_a_dsn_is_split_by_host() -> None:
    dsn = "postgresql://u@h1:1,h2,[::1]:3/d?target_session_attrs=read-write&sslmode=disable"
    assert dsn_by_address(dsn) == {
        "h1:1": "postgresql://u@h1:1/d?sslmode=disable",
        "h2:5432": "postgresql://u@h2:5432/d?sslmode=disable",
        "[::1]:3": "postgresql://u@[::1]:3/d?sslmode=disable",
    }


@pytest.mark.parametrize(
    ("name", "query", "expected"),
    [
        ("shard0 primary", "", Wants.READ_WRITE),
        ("shard0 replica", "", Wants.PREFER_STANDBY),
        ("shard0 primary", "?target_session_attrs=primary", Wants.PRIMARY),
        ("shard0 replica", "?target_session_attrs=standby", Wants.STANDBY),
        ("shard0 replica", "?target_session_attrs=any", Wants.ANY),
    ],
)
def test_what_is_wanted(name: str, query: str, expected: Wants) -> None:
    assert wanted(name, f"postgresql://u@h/d{query}") is expected


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.ReadOnlySQLTransactionError("25006"),
        asyncpg.AdminShutdownError("57P01"),
        asyncpg.CrashShutdownError("57P02"),
        asyncpg.CannotConnectNowError("57P03"),
        asyncpg.ConnectionDoesNotExistError("08003"),
        ConnectionResetError(),
        TimeoutError(),
    ],
)
def test_a_server_that_is_gone_is_not_trusted_again(error: Exception) -> None:
    assert is_distrusted(error, Lent())


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.QueryCanceledError("57014"),  # about the statement
        asyncpg.UniqueViolationError("23505"),
        asyncpg.DeadlockDetectedError("40P01"),
        asyncpg.exceptions.DataError("no such value"),
        ValueError(),
    ],
)
def test_what_is_about_the_statement_says_nothing_of_the_server(error: Exception) -> None:
    assert not is_distrusted(error, Lent())


def test_a_connection_cut_here_says_nothing_of_the_server() -> None:
    error = asyncpg.ConnectionDoesNotExistError("cut")
    assert not is_distrusted(error, Lent(ended_here=True, closed=True))
    assert is_distrusted(asyncpg.InterfaceError("the underlying connection is closed"), Lent(closed=True))


def test_a_rollback_that_fails_after_a_time_out_is_one() -> None:
    try:
        try:
            raise TimeoutError
        finally:
            raise asyncpg.InterfaceError("the connection is closed")  # as rolling back does
    except asyncpg.InterfaceError as error:
        assert has_timed_out(error)
        assert is_distrusted(error, Lent(ended_here=True))
    assert not has_timed_out(ValueError())
