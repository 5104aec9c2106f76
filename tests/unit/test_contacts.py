"""The contact book: who gets a message, what it keeps, and for how long."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from contact_shards import ADA, NOBODY, Shards, TurnedClock, book_over, claim
from msgspec.structs import replace

from pipeline.errors import (
    ProviderError,
    RecipientRefusedError,
    RejectedError,
    StorageUnavailableError,
    ThrottledError,
)
from pipeline.notifications.contacts import TTL_S, ContactBook
from pipeline.sharding.slots import slot_of
from pipeline.storage.customers import Person
from pipeline.storage.outbox import Channel, Claim, Kind


@pytest.fixture
def shards() -> Shards:
    return Shards()


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock()


@pytest.fixture
async def book(shards: Shards, clock: TurnedClock) -> AsyncIterator[ContactBook]:
    async with book_over(shards, clock) as made:
        yield made


async def code_of(book: ContactBook, of: Claim) -> tuple[type, str]:
    with pytest.raises(ProviderError) as caught:
        await book.complete(of)
    return type(caught.value), caught.value.code


# --- who gets it -----------------------------------------------------------------------------------------


async def test_an_order_with_an_id_only_goes_to_the_customer(book: ContactBook, shards: Shards) -> None:
    shards.persons["c-1"] = ADA
    found = await book.complete(claim(country="US"))
    assert (found.phone, found.email, found.customer_name) == (ADA.phone, ADA.email, "Ada")
    assert found.country == "DE"  # the number is read as the customer's, not as the order's
    found = await book.complete(claim(customer_name="Countess", locale="en", phone=" ", email=""))
    assert (found.customer_name, found.locale, found.email) == ("Countess", "en", ADA.email)


@pytest.mark.parametrize("own", [{"phone": "+1"}, {"email": "x@example.com"}])
async def test_an_orders_own_contact_goes_before(book: ContactBook, shards: Shards, own: dict) -> None:
    shards.persons["c-1"] = ADA
    order = claim(**own)
    assert await book.complete(order) is order
    del shards.persons["c-1"]
    book.changed([slot_of("c-1")])
    assert await book.complete(order) is order


@pytest.mark.parametrize(
    ("own", "age_s", "is_same"),
    [({}, 60, True), ({}, 5, False), ({}, -60, False), ({"phone": "+1"}, -60, True)],
)
async def test_a_message_that_went_elsewhere_is_told_from_one_that_would_go_there_now(
    book: ContactBook,
    shards: Shards,
    own: dict,
    age_s: float,
    is_same: bool,  # noqa: FBT001
) -> None:
    """A provider asked for the new number knows of no message, and it would be sent again."""
    tried_at = datetime(2026, 11, 21, 10, tzinfo=UTC)
    shards.persons["c-1"] = replace(ADA, recorded_at=tried_at - timedelta(seconds=age_s))
    try:
        await book.check_unchanged(claim(**own), tried_at)
    except RejectedError as error:
        assert (error.code, is_same) == ("contact_changed", False)
    else:
        assert is_same


async def test_a_person_who_is_not_known_any_more_is_another(book: ContactBook) -> None:
    with pytest.raises(RejectedError, match="contact_changed"):
        await book.check_unchanged(claim(), datetime(2026, 11, 21, 10, tzinfo=UTC))


@pytest.mark.parametrize("customer_id", [None, ""])
async def test_without_an_id_nobody_is_asked(book: ContactBook, shards: Shards, customer_id) -> None:
    order = claim(customer_id=customer_id)
    assert await book.complete(order) is order
    assert shards.asked == []


async def test_consent_counts_for_its_channel_whatever_the_order_brings(
    book: ContactBook, shards: Shards
) -> None:
    shards.persons["c-1"] = Person(is_known=True, email="ada@example.com", opted_out=("sms",))
    for order in (claim(), claim(phone="+14155550123")):
        assert await code_of(book, order) == (RecipientRefusedError, "opted_out")
    mail = await book.complete(claim(channel=Channel.EMAIL, kind=Kind.ORDER_EMAIL))
    assert mail.email == "ada@example.com"


async def test_an_unknown_customer_is_waited_for_within_the_grace_window(
    book: ContactBook, shards: Shards
) -> None:
    assert await code_of(book, claim(age_s=4.9)) == (ThrottledError, "contact_unknown")
    assert await code_of(book, claim(age_s=5.0)) == (RecipientRefusedError, "contact_unknown")
    shards.persons["c-1"] = ADA
    book.changed([slot_of("c-1")])
    assert (await book.complete(claim(age_s=99))).email == ADA.email


async def test_while_nobody_can_be_asked_a_message_waits_even_with_a_contact_of_its_own(
    book: ContactBook, shards: Shards
) -> None:
    shards.error = StorageUnavailableError("a: away")
    for order in (claim(age_s=99), claim(phone="+14155550123")):
        assert await code_of(book, order) == (ThrottledError, "contacts_unavailable")
    shards.error = None
    assert await code_of(book, claim()) == (ThrottledError, "contact_unknown")


# --- what it keeps ----------------------------------------------------------------------------------------


async def test_what_is_known_is_kept_until_it_changes(book: ContactBook, shards: Shards) -> None:
    shards.persons["c-1"] = ADA
    for _ in range(3):
        await book.person("c-1")
    assert (book.hits, book.reads) == (2, 1)
    shards.persons["c-1"] = Person(is_known=True, email="new@example.com")
    book.changed([slot_of("c-2")])
    assert await book.person("c-1") == ADA
    book.changed([slot_of("c-1")])
    assert (await book.person("c-1")).email == "new@example.com"
    assert book.reads == 2


async def test_an_answer_that_a_change_overtook_is_not_kept(book: ContactBook, shards: Shards) -> None:
    shards.persons["c-1"] = ADA
    asking = await asked_while_it_changes(book, shards)
    shards.gate.set()
    assert await asking == ADA
    assert await book.person("c-1") == NOBODY
    assert (book.hits, book.reads) == (0, 2)


async def test_who_asks_after_a_change_does_not_share_an_answer_from_before(
    book: ContactBook, shards: Shards
) -> None:
    shards.persons["c-1"] = ADA
    asking = await asked_while_it_changes(book, shards)
    later = asyncio.create_task(book.person("c-1"))
    await asyncio.sleep(0)
    shards.gate.set()
    assert await asking == ADA
    assert await later == NOBODY


async def asked_while_it_changes(book: ContactBook, shards: Shards) -> "asyncio.Task[Person]":
    """Ask for c-1; the shard has read it, not answered yet, and then the person changes."""
    shards.gate.clear()
    asking = asyncio.create_task(book.person("c-1"))
    await shards.was_asked.wait()
    del shards.persons["c-1"]
    book.changed([slot_of("c-1")])
    return asking


async def test_an_answer_without_proof_is_not_kept(book: ContactBook, shards: Shards) -> None:
    shards.is_current = False
    await book.person("c-1")
    await book.person("c-1")
    assert (book.hits, book.reads) == (0, 2)


async def test_it_holds_so_many_and_drops_the_least_recently_used(book: ContactBook, shards: Shards) -> None:
    for name in ("c-1", "c-2", "c-3", "c-1", "c-4"):
        await book.person(name)
    assert "3 entries" in repr(book)
    await book.person("c-1")
    assert book.hits == 2
    await book.person("c-2")
    assert book.reads == 5


async def test_nothing_is_kept_for_ever(book: ContactBook, clock: TurnedClock) -> None:
    await book.person("c-1")
    clock.ahead_s = TTL_S - 1
    await book.person("c-1")
    assert book.hits == 1
    clock.ahead_s = TTL_S
    await book.person("c-1")
    assert book.reads == 2
