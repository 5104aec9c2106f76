"""Small documents that a callback's proof needs, fetched from their provider."""

from typing import Final

import aiohttp

from pipeline.errors import CallbackError, CallbackUnavailableError

_TIMEOUT_S: Final = 5.0
_BYTES_MAX: Final = 65_536
_OK, _FAILED = 200, 500


async def fetch(url: str) -> bytes:
    """Return what is at a URL, which the caller has judged. No redirect is followed; 64 kB, 5 s at most.

    Raises CallbackError when there is nothing to be had, CallbackUnavailableError when another try may help.
    """
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(url, allow_redirects=False) as answer,
        ):
            if answer.status >= _FAILED:
                raise CallbackUnavailableError(f"the provider answered {answer.status}")
            content = await answer.content.read(_BYTES_MAX + 1)
            while len(content) <= _BYTES_MAX and (more := await answer.content.read(_BYTES_MAX)):
                content += more
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise CallbackUnavailableError(f"the provider cannot be asked: {type(error).__name__}") from error
    if answer.status != _OK or len(content) > _BYTES_MAX:
        raise CallbackError("the provider has nothing of use at that URL")
    return content
