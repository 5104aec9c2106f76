"""schemathesis against a listener: everything its description allows, and much that it does not."""

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

PROGRAM = Path(sys.executable).with_name("schemathesis")
HOOKS = Path(__file__).with_name("schemathesis_hooks.py")
SEED = 20_261_121
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
    "negative_data_rejection",  # not its opposite: no schema says which text is a number or an address
    "unsupported_method",
    "allow_header_conformance",
    "ignored_auth",
)


async def schemathesis(
    description: Path,
    url: str,
    token: str,
    report_dir: Path,
    *,
    examples: int,
    phases: str = "examples,coverage,fuzzing",
    checks: Sequence[str] = CHECKS,
    timeout_s: float = 100.0,
) -> tuple[int, str]:
    """Run it; return its status (0: nothing found) and what it says. The seed is fixed.

    `examples`: random requests for each operation, as many good as bad ones. The phase `coverage` beside them
    asks each parameter's bounds, and takes by far the longest.
    """
    arguments = [
        *("run", str(description), "--url", url),
        *(("--header", f"Authorization: Bearer {token}") if token else ()),
        *("--max-examples", str(examples), "--seed", str(SEED), "--phases", phases),
        *("--checks", ",".join(checks), "--generation-database", "none", "--no-shrink", "--no-color"),
        *("--report-dir", str(report_dir), "--continue-on-failure"),
    ]
    process = await asyncio.create_subprocess_exec(
        str(PROGRAM),
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=report_dir,
        env={**os.environ, "SCHEMATHESIS_HOOKS": str(HOOKS)},
    )
    try:
        async with asyncio.timeout(timeout_s):
            said, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        raise
    assert process.returncode is not None
    return process.returncode, said.decode()
