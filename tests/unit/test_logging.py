"""What an error quotes does not get into the log, whoever logs it and in whichever form."""

import subprocess
import sys

import pytest

CANARY = "zdenka.kanarek@example.com"
# Each raises and logs an error whose text, cause, context or locals hold the canary.
CRASHES = {
    "our logger": "try:\n    'x'.encode(quoted)\nexcept LookupError:\n    log.exception('it.crashed')",
    "our logger, an error as exc_info": "log.error('it.crashed', exc_info=ValueError(quoted))",
    "a cause": (
        "try:\n    try:\n        raise KeyError(quoted)\n    except KeyError as error:\n"
        "        raise PostorderError('of our own') from error\n"
        "except PostorderError:\n    log.exception('it.crashed')"
    ),
    "a group": "log.error('it.crashed', exc_info=ExceptionGroup(quoted, [ValueError(quoted)]))",
    "an operating system's error": "log.error('it.crashed', exc_info=FileNotFoundError(2, 'no', quoted))",
    "a library": "logging.getLogger('aiohttp.server').error('it.crashed', exc_info=ValueError(quoted))",
    "nobody": "raise ValueError(quoted)",
    "a task that nobody asked": (
        "async def crash():\n    raise ValueError(quoted)\n"
        "async def main():\n"
        "    task = asyncio.ensure_future(crash())\n    await asyncio.wait([task])\n    del task\n"
        "    gc.collect()\n"
        "asyncio.run(main())"
    ),
}


@pytest.mark.parametrize("log_format", ["json", "console"])
@pytest.mark.parametrize("crash", CRASHES)
def test_nothing_that_an_error_quotes_is_logged(crash: str, log_format: str) -> None:
    program = (
        "import asyncio, gc, logging, structlog, sys\n"
        "from pipeline.errors import PostorderError\n"
        "from pipeline.observability.logging import configure_logging\n"
        f"configure_logging('debug', '{log_format}')\n"
        "log, quoted = structlog.get_logger(), sys.argv[1]\n"
        f"{CRASHES[crash]}\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, CANARY], capture_output=True, text=True, check=False
    )
    assert done.returncode == (crash == "nobody")
    assert "crash" in done.stderr or "exception was never retrieved" in done.stderr
    assert "Error" in done.stderr or "ExceptionGroup" in done.stderr  # its class
    assert CANARY not in done.stderr
    assert "kanarek" not in done.stderr


def test_the_text_of_an_error_of_ours_is_logged_and_its_causes_are_named() -> None:
    program = (
        "import structlog\n"
        "from pipeline.errors import PostorderError\n"
        "from pipeline.observability.logging import configure_logging\n"
        "configure_logging('info', 'json')\n"
        "try:\n    try:\n        1 / 0\n    except ZeroDivisionError as error:\n"
        "        raise PostorderError('slot 7: gone') from error\n"
        "except PostorderError:\n    structlog.get_logger().exception('it.failed')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "slot 7: gone" in done.stderr
    assert done.stderr.index("ZeroDivisionError") < done.stderr.index("PostorderError: slot 7")


def test_libraries_say_little() -> None:
    program = (
        "import logging, sys\n"
        "from pipeline.observability.logging import configure_logging\n"
        "configure_logging('debug', 'json')\n"
        "for name in sys.argv[2:]:\n"
        "    logging.getLogger(name).info(sys.argv[1])\n"
        "    logging.getLogger(name).debug(sys.argv[1])\n"
        "for name in ('aio_pika', 'aiormq.connection', 'aiohttp.access', 'asyncpg', 'twilio', 'mail.log'):\n"
        "    logging.getLogger(name).warning(sys.argv[1])\n"
        "logging.getLogger('uvicorn.error').warning('a warning')\n"
    )
    names = (
        "uvicorn.access",
        "uvicorn.error",
        "litestar",
        "aiohttp.access",
        "aiormq",
        "asyncio",
        "httpcore",
        "jwt",
    )
    done = subprocess.run(
        [sys.executable, "-c", program, CANARY, *names], capture_output=True, text=True, check=True
    )
    assert CANARY not in done.stderr
    assert "a warning" in done.stderr
