"""Serves the console's files: as they are, to anybody, because there is nothing in them but the page.

The page's own policy (ADR 33): scripts and styles of this origin only, none inline; no text becomes markup,
because Trusted Types leave no way to make any; it talks to this origin and is framed by none.
"""

from importlib.resources import files
from typing import Any, Final

from litestar import Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from consumers.api.access import OPEN
from consumers.api.routes import no_such

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS: Final = {
    "content-security-policy": POLICY,
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
_MEDIA_TYPES: Final = {
    "html": "text/html",
    "css": "text/css",
    "js": "text/javascript",
    "svg": "image/svg+xml",
}
_PAGE: Final = "index.html"
_OPTIONS: Final[dict[str, Any]] = {"opt": {"access": OPEN}, "include_in_schema": False}


def console_files() -> dict[str, bytes]:
    """Return the console's files by name, read once."""
    folder = files("consumers.console").joinpath("site")
    return {file.name: file.read_bytes() for file in folder.iterdir() if _suffix(file.name) in _MEDIA_TYPES}


def console_routes() -> list[HTTPRouteHandler]:
    """Return the routes: the page at /console, what belongs to it below."""
    served = console_files()

    @get("/console", **_OPTIONS)
    async def page() -> Response[bytes]:
        """Return the page."""
        return _answer(_PAGE, served[_PAGE])

    @get("/console/{name:str}", **_OPTIONS)
    async def part(name: FromPath[str]) -> Response[bytes]:
        """Return a script, the style or the icon."""
        if name not in served or name == _PAGE:
            raise no_such("file")
        return _answer(name, served[name])

    return [page, part]


def _answer(name: str, content: bytes) -> Response[bytes]:
    return Response(content, media_type=_MEDIA_TYPES[_suffix(name)], headers=_HEADERS)


def _suffix(name: str) -> str:
    return name.rpartition(".")[2]
