"""structlog set-up: JSON lines, or coloured text on a terminal. Third-party loggers are kept short."""

import logging
import sys

import orjson
import structlog

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
            structlog.processors.format_exc_info,
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
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s %(message)s")
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.ERROR)
    # It logs each failed attempt to connect; the supervisors say the same, with what to do about it.
    logging.getLogger("aiormq.connection").setLevel(logging.CRITICAL)
