"""`postorder bounces read`: take in what mail servers sent back, out of a mailbox on disk."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from consumers.command import ConfigOption, config_path, find_shard_in, run_async, settings_from
from consumers.mailboxes import Mailbox
from consumers.resharding import opened
from pipeline.clock import SystemClock
from pipeline.errors import PostorderError
from pipeline.notifications.rules.bounce_book import BounceBook, message_id_domains
from pipeline.notifications.rules.recipients import Recipients
from pipeline.settings import Settings
from pipeline.storage.cluster import FindShard

bounces_app = typer.Typer(help="Mails that were sent back.", no_args_is_help=True)

_LOOK_S = 5.0


@bounces_app.command()
def read(
    mailbox: Annotated[Path, typer.Argument(help="A Maildir, or a file in mbox form.")],
    follow: Annotated[bool, typer.Option("--follow", help="Go on with what comes, until Ctrl-C.")] = False,  # noqa: FBT002
    config: ConfigOption = None,
) -> None:
    """Take bounces in: their mails become undelivered, and addresses that are gone get nothing any more.

    Reading a bounce again changes nothing.
    """
    settings = settings_from(config)
    found = Mailbox(mailbox)
    try:
        outcomes = run_async(_read(settings, find_shard_in(config_path(config)), found, follow=follow))
    except KeyboardInterrupt:
        return
    for outcome, count in sorted(outcomes.items()):
        typer.echo(f"{outcome}: {count}")


async def _read(settings: Settings, find_shard: FindShard, mailbox: Mailbox, *, follow: bool) -> Counter[str]:
    clock, outcomes = SystemClock(), Counter[str]()
    async with opened(settings, find_shard) as cluster:
        recipients = Recipients(cluster, clock=clock)
        book = BounceBook(cluster, recipients, domains=message_id_domains(settings), clock=clock)
        while True:
            try:
                for mail in mailbox.unread():
                    outcomes.update(await book.take(mail))
                    outcomes["mails"] += 1
            except PostorderError as error:
                if not (follow and error.retryable):
                    raise
                typer.echo(f"postorder: {error}: reading goes on in {_LOOK_S:g} s", err=True)
            if not follow:
                return outcomes
            await asyncio.sleep(_LOOK_S)
