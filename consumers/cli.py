"""`postorder`: every command by name, each in a module that is imported when it is called.

Each says what is wrong in one line per problem and exits with a status.
"""

import sys
from typing import ClassVar

import typer

from consumers.lazy_group import Entry, LazyGroup
from pipeline.errors import PostorderError, SettingsError

USAGE_ERROR = 2

COMMANDS = {
    "run": Entry(
        "consumers.run_command:run",
        "Run the pipeline until SIGTERM or Ctrl-C; a second signal stops it at once.",
    ),
    "publish": Entry("consumers.publish_command:publish", "Publish events, each with the broker's confirm."),
    "status": Entry(
        "consumers.status_command:status",
        "Show KPIs, totals, queues, replicas, and whether everything adds up.",
    ),
    "get": Entry("consumers.get_commands:get_app", "Find an order, an invoice or a customer."),
    "timeline": Entry(
        "consumers.timeline_command:timeline", "Tell what happened to an order's messages, in order of time."
    ),
    "effects": Entry(
        "consumers.effects_commands:effects_app", "Messages: look at them, and say what became of one."
    ),
    "quarantine": Entry(
        "consumers.quarantine_commands:quarantine_app", "Deliveries that were no valid event."
    ),
    "recipients": Entry(
        "consumers.recipients_commands:recipients_app", "Numbers and addresses that get nothing any more."
    ),
    "bounces": Entry("consumers.bounces_commands:bounces_app", "Mails that were sent back."),
    "limits": Entry(
        "consumers.limits_commands:limits_app",
        "Limits of pools that count instead of the settings', within their bounds.",
    ),
    "audit": Entry(
        "consumers.audit_commands:audit",
        "List what operators did by commands and the API, the latest first: an entry before and one after.",
    ),
    "shards": Entry(
        "consumers.shards_commands:shards_app", "The shard map, and moving slots between shards."
    ),
    "retention": Entry("consumers.retention_commands:retention_app", "Old inbox rows and settled messages."),
    "migrate": Entry("consumers.migrate_commands:migrate_app", "Bring every shard's tables up to date."),
    "topology": Entry("consumers.topology_commands:topology_app", "The broker's exchanges and queues."),
    "templates": Entry("consumers.templates_commands:templates_app", "The texts of SMS and e-mails."),
    "api": Entry("consumers.api_commands:api_app", "The HTTP API."),
    "stack": Entry(
        "consumers.stack_commands:stack_app",
        "The local stack: RabbitMQ, PostgreSQL pairs, SMTP sink, Twilio emulator.",
    ),
    "demo": Entry(
        "loadtest.demo_command:demo",
        "Replay a real order history through the whole pipeline and check that the numbers add up.",
    ),
    "loadtest": Entry(
        "loadtest.scenarios.command:loadtest_app",
        "Load tests of the whole pipeline: scenarios, reports, comparisons.",
    ),
    "plan": Entry(
        "loadtest.planning.plan_command:plan", "Say how many machines an amount of orders needs, and why."
    ),
}


class Commands(LazyGroup):
    """The commands of `postorder`."""

    entries: ClassVar = COMMANDS


app = typer.Typer(cls=Commands, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.callback()
def postorder() -> None:
    """Order post-processing: RabbitMQ to sharded PostgreSQL to SMS and e-mail."""


def main() -> None:
    """Run the command line; our own errors come out as one line each, not as a stack trace."""
    try:
        app()
    except SettingsError as error:
        for problem in error.problems:
            complain(problem)
        sys.exit(USAGE_ERROR)
    except PostorderError as error:
        complain(str(error))
        sys.exit(1)
    except OSError as error:
        if error.filename is None:  # no file that somebody named
            raise
        complain(f"{error.filename}: {error.strerror}")
        sys.exit(1)


def complain(text: str) -> None:
    """Say what is wrong, on stderr."""
    typer.echo(f"postorder: {text}", err=True)
