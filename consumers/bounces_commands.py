"""`postorder bounces read`: take in what mail servers sent back, out of a mailbox on disk."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from consumers.audited import audited
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
    async with opened(settings, find_shard) as cluster:
        recipients = Recipients(cluster, clock=SystemClock())
        book = BounceBook(cluster, recipients, domains=message_id_domains(settings), clock=SystemClock())
        if follow:  # a listener as the public one is: what it changes says why by itself
            return await _follow(mailbox, book)
        async with audited(cluster, "bounces.read", "a mailbox") as action:
            outcomes = await _take(mailbox, book, Counter())
            action.detail = ", ".join(f"{outcome}: {count}" for outcome, count in sorted(outcomes.items()))
        return outcomes


async def _follow(mailbox: Mailbox, book: BounceBook) -> Counter[str]:
    outcomes = Counter[str]()
    while True:
        try:
            await _take(mailbox, book, outcomes)
        except PostorderError as error:
            if not error.retryable:
                raise
            typer.echo(f"postorder: {error}: reading goes on in {_LOOK_S:g} s", err=True)
        await asyncio.sleep(_LOOK_S)


async def _take(mailbox: Mailbox, book: BounceBook, outcomes: Counter[str]) -> Counter[str]:
    for mail in mailbox.unread():
        outcomes.update(await book.take(mail))
        outcomes["mails"] += 1
    return outcomes
