"""A real Prometheus, of Debian's package: unpacked by scripts/bootstrap.sh, never installed."""

import asyncio
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from stack.ports import HOST, choose_port

ROOT = Path(__file__).parents[1]
_UNPACKED = ROOT / "var/cache/debian/prometheus/usr/bin"
RULES = ROOT / "deploy/prometheus/rules"


def prometheus_program(name: str) -> Path:
    """Return the path of `prometheus` or `promtool`; the test is skipped where there is none."""
    for path in (_UNPACKED / name, Path(shutil.which(name) or "/usr/bin/prometheus-is-missing")):
        if path.exists():
            return path
    pytest.skip(f"{name} is missing: `make setup` unpacks it from Debian's package prometheus")


class RealPrometheus:
    """Its HTTP API."""

    def __init__(self, url: str, http: aiohttp.ClientSession) -> None:
        self.url = url
        self._http = http

    async def get(self, path: str, **parameters: str) -> Any:
        async with self._http.get(f"{self.url}/api/v1/{path}", params=parameters) as answer:
            body = await answer.json()
            assert body["status"] == "success", body
            return body["data"]

    async def query(self, expression: str) -> list[dict[str, Any]]:
        """Return what an expression comes to now: a list of `metric` and `value`."""
        return (await self.get("query", query=expression))["result"]

    async def until(self, expression: str, timeout_s: float = 20.0) -> list[dict[str, Any]]:
        """Return what an expression comes to, once it comes to anything."""
        deadline = time.monotonic() + timeout_s
        while not (found := await self.query(expression)):
            assert time.monotonic() < deadline, f"nothing within {timeout_s} s: {expression}"
            await asyncio.sleep(0.2)
        return found


@asynccontextmanager
async def real_prometheus(
    folder: Path, targets: Sequence[str], *, interval: str = "1s"
) -> AsyncIterator[RealPrometheus]:
    """Run a Prometheus with the rules of deploy/prometheus/ that scrapes `HOST:PORT` as job postorder."""
    program, port = prometheus_program("prometheus"), choose_port("management", set())
    config = {
        "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
        "rule_files": [str(RULES / "*.yml")],
        "scrape_configs": [{"job_name": "postorder", "static_configs": [{"targets": list(targets)}]}],
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    log = (folder / "prometheus.log").open("wb")
    process = subprocess.Popen(  # noqa: ASYNC220  # started once, ended below
        [
            program,
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={HOST}:{port}",
        ],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as http:
            await _until_ready(f"http://{HOST}:{port}/-/ready", http, process, folder)
            yield RealPrometheus(f"http://{HOST}:{port}", http)
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        log.close()


async def _until_ready(
    url: str, http: aiohttp.ClientSession, process: subprocess.Popen[bytes], folder: Path
) -> None:
    deadline = time.monotonic() + 30
    while True:
        assert process.poll() is None, (folder / "prometheus.log").read_text()
        try:
            async with http.get(url) as answer:
                if answer.status == 200:
                    return
        except aiohttp.ClientError:
            pass  # not up yet
        assert time.monotonic() < deadline, (folder / "prometheus.log").read_text()
        await asyncio.sleep(0.1)
