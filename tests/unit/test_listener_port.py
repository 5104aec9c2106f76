"""The ports of the API and the public listener: taken by another program, shared by several of ours."""

import asyncio
import socket
from collections.abc import Iterator

import pytest
from api_site import running_api
from public_site import running_site

from pipeline.errors import SettingsError


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that another program listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


async def test_a_port_of_another_program_is_a_problem_of_the_settings(taken: int) -> None:
    for section, running in (("api", running_api(port=taken)), ("public", running_site(port=taken))):
        where = rf"{section}\.port: cannot listen on 127\.0\.0\.1:{taken}: \w+"
        with pytest.raises(SettingsError, match=where):
            async with running:
                pass


async def test_a_host_that_is_none_is_a_problem_of_the_settings() -> None:
    with pytest.raises(SettingsError, match=r"api\.port: cannot listen on no-such-host\.invalid:0: \w+"):
        async with running_api(host="no-such-host.invalid"):
            pass


async def test_a_second_process_shares_the_port_and_when_it_ends_the_first_goes_on() -> None:
    async with running_api() as first:
        async with running_api(port=first.port) as second:
            assert second.port == first.port
            replies = await asyncio.gather(*(first.request("GET", "/v1/me") for _ in range(30)))
            assert {reply.status for reply in replies} == {200}
        replies = await asyncio.gather(*(first.request("GET", "/v1/me") for _ in range(10)))
        assert {reply.status for reply in replies} == {200}
