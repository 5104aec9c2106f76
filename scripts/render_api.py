"""Writes openapi.json, public-openapi.json and api.md of docs/reference, or checks that they are current."""

import json
import sys
from pathlib import Path
from typing import Any

import public_description
from litestar import Litestar
from made_files import write_or_check

from consumers.api.overview_reader import OverviewReader
from consumers.api.services import api_application, api_routes
from consumers.api.streams import OverviewStreams
from pipeline.clock import SystemClock
from pipeline.control.limit_board import LimitBoard
from pipeline.control.report_board import ReportBoard
from pipeline.reading.order_reader import OrderReader
from pipeline.settings import Settings, ShardSettings
from pipeline.storage.cluster import Cluster

REFERENCE = Path(__file__).parents[1] / "docs/reference"
HEAD = """# The HTTP API

<!-- Made by scripts/render_api.py from consumers/api/. Do not edit. -->

How to turn it on, make tokens and ask: [use the API](../how-to/use-the-api.md). Every field and status:
[openapi.json](openapi.json) (OpenAPI 3.1), which the API serves at `/v1/openapi.json` too.

| method and path | role | what it does |
|---|---|---|
"""
TAIL = """
## Errors

One shape, [RFC 9457](https://www.rfc-editor.org/rfc/rfc9457): `type` ("about:blank"), `title`, `status`,
and `detail` where there is more to say. Nothing in it repeats what was sent.

| status | when |
|---|---|
| 400 | a parameter, or the body, is not what the description asks for; one is unknown or there twice |
| 401 | no token, or one that is not accepted; `detail` says why |
| 403 | the token's role does not cover the route |
| 404 | no such route, or nothing by that id |
| 405 | not by this method; HEAD, OPTIONS and TRACE by none |
| 408 | the request took longer to arrive than `api.request_timeout_s` |
| 409 | it is not as whoever asks has seen it |
| 413, 431 | the body, or the head, is larger than `api.body_bytes_max`, `api.head_bytes_max` |
| 415 | the body is not `application/json` in UTF-8, or it is packed |
| 422 | a value that can be read, and cannot be taken |
| 429 | a subject, an address (`api.*requests_per_s`) or its streams are too many; `Retry-After` says when |
| 503 | a server does not answer (`detail` names it), or too much is under way; `Retry-After` says when |

While a shard is away, lists of messages and of quarantine have what the others hold, and name it in `away`;
what is done by ids is done on the others.

## The stream

`GET /v1/overview/stream` sends [server-sent
events](https://html.spec.whatwg.org/multipage/server-sent-events.html): `overview` each second, with the same
data as `GET /v1/overview`, and at last `end`, whose data say why: `time` (`api.stream_s` is over), `token`
(the token is over), `stopping` (the process is), `busy` (too many came at once). Whoever still looks asks for
the next one.
"""


def application() -> Litestar:
    """Return the API of an installation that is nowhere."""
    shard = ShardSettings(name="shard0", primary="postgresql://postorder@127.0.0.1/postorder")
    settings, clock = Settings(shards=(shard,)), SystemClock()
    cluster = Cluster(settings)
    reader = OverviewReader(settings, cluster, ReportBoard(cluster, clock), LimitBoard(cluster, clock), clock)
    streams = OverviewStreams(settings.api, reader, clock)
    orders = OrderReader(settings, cluster)
    routes = api_routes(settings, cluster, orders=orders, overview=reader, streams=streams, clock=clock)
    return api_application(settings, routes, clock)


def description() -> dict[str, Any]:
    """Return the OpenAPI description."""
    return application().openapi_schema.to_schema()


def page(schema: dict[str, Any]) -> str:
    """Return the page of routes."""
    rows = [
        f"| `{method.upper()} {path}` | {operation['security'][0]['bearer'][0]} | {_first_line(operation)} |"
        for path, item in sorted(schema["paths"].items())
        for method, operation in sorted(item.items())
    ]
    return HEAD + "\n".join(rows) + "\n" + TAIL


def _first_line(operation: dict[str, Any]) -> str:
    return str(operation["description"]).partition("\n")[0].replace("|", "\\|")


def render() -> dict[Path, str]:
    """Return every file with its text."""
    schema = description()
    return {
        REFERENCE / "openapi.json": _json(schema),
        REFERENCE / "public-openapi.json": _json(public_description.description()),
        REFERENCE / "api.md": page(schema),
    }


def _json(schema: dict[str, Any]) -> str:
    return json.dumps(schema, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


if __name__ == "__main__":
    sys.exit(write_or_check(render()))
