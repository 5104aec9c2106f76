"""structlog set-up: JSON lines, or coloured text on a terminal. Third-party loggers are kept short.

Nothing that an error quotes gets out: see tracebacks.py.
"""

import logging
import sys
from types import TracebackType
from typing import Any

import orjson
import structlog

from pipeline.observability.tracebacks import described, error_of

# These quote URLs, frames and values at INFO or DEBUG, which may be personal data.
_QUIET = ("aio_pika", "aiormq", "aiohttp", "asyncio", "asyncpg", "mail", "twilio", "twilio.http_client")


def configure_logging(level: str, log_format: str) -> None:
    """Set up logging to stderr. Call once, from the program's entry point."""
    as_text = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer()
        if as_text
        else structlog.processors.JSONRenderer(serializer=lambda value, **_: orjson.dumps(value, default=str))
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _describe_error,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=(
            structlog.PrintLoggerFactory(sys.stderr)
            if as_text
            else structlog.BytesLoggerFactory(sys.stderr.buffer)
        ),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_ForeignFormatter("%(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    sys.excepthook = _log_uncaught
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.ERROR)
    # It logs each failed attempt to connect; the supervisors say the same, with what to do about it.
    logging.getLogger("aiormq.connection").setLevel(logging.CRITICAL)


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Log what nobody caught, in place of Python's own traceback."""
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
    else:
        structlog.get_logger(__name__).critical("program.crashed", exc_info=error)


def _describe_error(
    _logger: Any, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Put an error's description in its place."""
    error = error_of(event.pop("exc_info", None))
    if error is not None:
        event["exception"] = described(error)
    return event


class _ForeignFormatter(logging.Formatter):
    """Lines of libraries: one for each record, and no text of an error."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record, cut where asyncio goes on with the repr of a task and its error."""
        record.message = record.getMessage().partition("\n")[0]
        text = self.formatMessage(record)
        error = error_of(record.exc_info)
        return f"{text}\n{described(error)}" if error else text
