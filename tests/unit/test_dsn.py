"""A DSN of several hosts in its parts, whatever the version of Python says of brackets."""

import pytest

from pipeline.dsn import Address, parse_dsn


def test_all_parts() -> None:
    dsn = parse_dsn("postgres://m%40e:p%2Fw@h1,[::1]:6,H3:7/a%20b?sslmode=require&target_session_attrs=any")
    assert dsn.scheme == "postgres"
    assert (dsn.user, dsn.password, dsn.database) == ("m@e", "p/w", "a b")
    assert dsn.addresses == (Address("h1", 5432), Address("::1", 6), Address("h3", 7))
    assert dsn.parameters == {"sslmode": "require", "target_session_attrs": "any"}
    assert dsn.at(dsn.addresses[1]) == "postgres://m%40e:p%2Fw@[::1]:6/a%20b?sslmode=require"


@pytest.mark.parametrize("dsn", ["postgresql://h", "postgresql://h/", "postgresql://h:5432"])
def test_the_least(dsn: str) -> None:
    parts = parse_dsn(dsn)
    assert parts.addresses == (Address("h", 5432),)
    assert (parts.user, parts.password, parts.database, parts.parameters) == ("", "", "", {})


@pytest.mark.parametrize(
    "hosts", ["", "h1,", ":1", "h:x", "h:0", "h:70000", "[::1", "x[::1]", "h1,[z]", "a b"]
)
def test_what_is_no_host_is_named(hosts: str) -> None:
    with pytest.raises(ValueError, match="is not of the form host:port") as raised:
        parse_dsn(f"postgresql://u@{hosts}/d")
    assert repr(hosts.rpartition(",")[2]) in str(raised.value)
