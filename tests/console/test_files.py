"""The console as it is served: to anybody, under a strict policy, whole, and with nothing from elsewhere."""

import re
from collections.abc import AsyncIterator
from html.parser import HTMLParser

import pytest
from api_site import Api, problem_of, running_api

from consumers.console.routes import POLICY, console_files, console_routes

FILES = console_files()
SCRIPTS = {name: text.decode() for name, text in FILES.items() if name.endswith(".js")}
MARKUP_FROM_TEXT = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|createContextualFragment|setHTMLUnsafe"
    r"|\beval\b|new Function|srcdoc|javascript:|localStorage|document\.cookie"
)


class Tags(HTMLParser):
    """The tags of a page, and the text of scripts and styles in it."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.inline: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.found and self.found[-1][0] in {"script", "style"} and data.strip():
            self.inline.append(data)


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    async with running_api(more_routes=console_routes()) as running:
        yield running


async def test_everybody_gets_the_page_and_its_parts_under_a_strict_policy(api: Api) -> None:
    paths = {"/console": "index.html", **{f"/console/{name}": name for name in FILES if name != "index.html"}}
    for path, name in paths.items():
        reply = await api.request("GET", path, access=None)
        assert (reply.status, reply.body) == (200, FILES[name]), path
        assert reply.headers["content-security-policy"] == POLICY
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["referrer-policy"] == "no-referrer"
        assert reply.headers["cache-control"] == "no-store"
    assert reply.headers["cross-origin-opener-policy"] == "same-origin"
    script = await api.request("GET", "/console/main.js", access=None)
    assert script.headers["content-type"] == "text/javascript; charset=utf-8"


def test_the_policy_lets_nothing_in_that_is_not_the_consoles_own() -> None:
    rules = dict(rule.strip().split(" ", 1) for rule in POLICY.split(";"))
    assert rules["default-src"] == "'none'"
    assert {rules[name] for name in ("script-src", "style-src", "connect-src", "img-src")} == {"'self'"}
    assert {rules[name] for name in ("form-action", "base-uri", "frame-ancestors")} == {"'none'"}
    assert (rules["require-trusted-types-for"], rules["trusted-types"]) == ("'script'", "'none'")


@pytest.mark.parametrize(
    "path",
    [
        "/console/nothing.js",
        "/console/index.html",
        "/console/..%2Froutes.py",
        "/console/%2E%2E",
        "/console/a/b",
    ],
)
async def test_what_is_no_part_of_it_is_not_there(api: Api, path: str) -> None:
    assert problem_of(await api.request("GET", path, access=None))["status"] == 404


async def test_beside_it_the_api_stays_closed(api: Api) -> None:
    for path in ("/v1/overview", "/v1/me", "/v1/openapi.json"):
        assert (await api.request("GET", path, access=None)).status == 401
    assert (await api.request("POST", "/console", access=None, data={})).status == 405


def test_nothing_is_inline_and_nothing_comes_from_elsewhere() -> None:
    page = Tags()
    page.feed(FILES["index.html"].decode())
    assert page.inline == []
    attributes = [(tag, name) for tag, given in page.found for name in given]
    assert [one for one in attributes if one[1] == "style" or one[1].startswith("on")] == []
    assert "style" not in {tag for tag, _ in page.found}
    used = [given[name] for _, given in page.found for name in ("src", "href") if name in given]
    parts = [one for one in used if one and not one.startswith("#")]
    assert {one.removeprefix("console/") for one in parts} <= FILES.keys()
    for name, text in FILES.items():
        urls = [
            url
            for url in re.findall(rb"(?:https?:)?//[a-z0-9][\w.-]*", text)
            if not url.endswith(b"www.w3.org")
        ]
        assert urls == [], name
    assert b"@import" not in FILES["console.css"]
    assert b"url(" not in FILES["console.css"]


def test_scripts_are_whole_small_and_make_no_markup_of_text() -> None:
    for name, text in SCRIPTS.items():
        assert set(re.findall(r'from "\./([^"]+)"', text)) <= SCRIPTS.keys(), name
        assert MARKUP_FROM_TEXT.findall(text) == [], name
        assert text.count("\n") < 300, name
    reached, waiting = set(), ["main.js"]
    while waiting:
        name = waiting.pop()
        reached.add(name)
        waiting += {*re.findall(r'from "\./([^"]+)"', SCRIPTS[name])} - reached
    assert reached == SCRIPTS.keys()


def test_ids_are_unique_and_all_that_scripts_and_labels_name_is_there() -> None:
    page = Tags()
    page.feed(FILES["index.html"].decode())
    ids = [given["id"] for _, given in page.found if "id" in given]
    assert len(ids) == len(set(ids))
    made = {name for text in SCRIPTS.values() for name in re.findall(r'\bid: "([a-z-]+)"', text)}
    named = {name for text in SCRIPTS.values() for name in re.findall(r'byId\("([a-z-]+)"\)', text)}
    labels = {given[key] for _, given in page.found for key in ("for", "aria-labelledby") if key in given}
    assert named | labels <= {*ids, *made}
