"""How the Twilio emulator posts: on kept connections, whatever the receiver answers."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from stack.twilio.poster import Poster

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Receiver:
    """Answers requests with what it was told to, one after the other; None: it closes the connection."""

    def __init__(self, answers: Sequence[bytes | None]) -> None:
        self._answers = list(answers)
        self.connections = 0
        self.heads: list[bytes] = []
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while self._answers:
                self.heads.append(await reader.readuntil(b"\r\n\r\n"))
                await reader.readexactly(3)
                if (answer := self._answers.pop(0)) is None:
                    break
                writer.write(answer)
                if b"\r\n\r\n" in answer and b"Content-Length" not in answer:
                    break
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()


@asynccontextmanager
async def receiving(*answers: bytes | None) -> AsyncIterator[tuple[Receiver, Poster]]:
    receiver, poster = Receiver(answers), Poster()
    async with await asyncio.start_server(receiver.serve, "127.0.0.1", 0) as server:
        receiver.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/a%2Fb?c=%7E"
        yield receiver, poster
        poster.close()


async def post(poster: Poster, url: str, timeout_s: float = 5.0) -> int:
    return await poster.post(url, b"a=b", {"X-Name": "value"}, timeout_s)


async def test_a_connection_is_kept_and_the_target_goes_as_it_is() -> None:
    async with receiving(OK, OK, OK) as (receiver, poster):
        assert [await post(poster, receiver.url) for _ in range(3)] == [200, 200, 200]
        assert receiver.connections == 1
        assert receiver.heads[0].startswith(b"POST /a%2Fb?c=%7E HTTP/1.1\r\nHost: 127.0.0.1:")


async def test_posts_at_once_have_a_connection_each() -> None:
    async with receiving(OK, OK, OK) as (receiver, poster):
        await asyncio.gather(*(post(poster, receiver.url) for _ in range(3)))
        assert receiver.connections == 3


async def test_an_answer_may_end_with_its_connection() -> None:
    async with receiving(b"HTTP/1.0 404 No\r\n\r\nnothing here", OK) as (receiver, poster):
        assert [await post(poster, receiver.url) for _ in range(2)] == [404, 200]
        assert receiver.connections == 2


@pytest.mark.parametrize("answer", [None, b"no HTTP at all\r\n\r\n"])
async def test_what_is_no_answer_is_an_error_and_the_next_one_goes_on(answer: bytes | None) -> None:
    async with receiving(answer, OK) as (receiver, poster):
        with pytest.raises(OSError):  # noqa: PT011  # whatever the system calls it
            await post(poster, receiver.url)
        assert await post(poster, receiver.url) == 200


async def test_who_does_not_answer_in_time_is_not_asked_on_that_connection_again() -> None:
    async with receiving(b"HTTP/1.1 200", OK) as (receiver, poster):
        with pytest.raises(TimeoutError):
            await post(poster, receiver.url, timeout_s=0.1)
        assert await post(poster, receiver.url) == 200
        assert receiver.connections == 2


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/", "http:///x", "http://127.0.0.1:1/a b"])
async def test_what_is_no_url_of_http_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="URL"):
        await post(Poster(), url)
