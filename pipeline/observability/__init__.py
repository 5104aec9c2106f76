"""Logging and metrics: the only home of structlog set-up and prometheus_client."""
