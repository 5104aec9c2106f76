"""Every message arrives once, whole and in order, however its bytes come."""

import pytest
from conformance.conftest import NewSession
from conformance.inbox import Inbox
from conformance.messages import UNDECODABLE, Message, headers_of, short_text
from conformance.scripted_broker import HEARTBEAT, ScriptedBroker

from pipeline.errors import EventError
from pipeline.ingest.delivery import Delivery

HEADERS = {"ce_id": "1", "count": 7, "deep": {"list": [1, True, "ü"]}}
MESSAGES = (
    Message(body=b'{"order":1}', headers=HEADERS, message_id="m-1"),
    Message(body=b"", content_type=None),
    Message(body=b"\x00\xce\xff", routing_key="order.ü", content_encoding="gzip", exchange=""),
)
FRAME_MAX = 4096
ROOM = FRAME_MAX - 8


def assert_intact(delivery: Delivery, message: Message) -> None:
    assert delivery.body == message.body
    assert delivery.exchange == message.exchange
    assert delivery.routing_key == message.routing_key
    assert delivery.content_type == message.content_type
    assert delivery.content_encoding == message.content_encoding
    assert delivery.raw_properties == message.property_bytes
    assert delivery.properties.headers == (message.headers or {})
    assert delivery.properties.message_id == message.message_id


def assert_all_intact(deliveries: list[Delivery], messages: tuple[Message, ...], count: int) -> None:
    """They are `count` deliveries of the messages, round after round."""
    assert [delivery.tag for delivery in deliveries] == list(range(1, count + 1))
    for at, delivery in enumerate(deliveries):
        assert_intact(delivery, messages[at % len(messages)])


async def test_a_stream_may_be_cut_anywhere(
    broker: ScriptedBroker, new_session: NewSession, inbox: Inbox
) -> None:
    inbox.settling = True
    await new_session().open()
    peer = await broker.consumer()
    whole = peer.stream(*MESSAGES, piece_max=4)
    peer.send(whole)
    for cut in range(1, len(whole)):
        stream = peer.stream(*MESSAGES, piece_max=4)
        await peer.send_in_segments(stream[:cut], stream[cut:])
    count = len(whole) * len(MESSAGES)
    assert_all_intact(await inbox.until(count), MESSAGES, count)
    await peer.until_acknowledged(*range(1, count + 1))


async def test_a_stream_may_come_byte_by_byte(
    broker: ScriptedBroker, new_session: NewSession, inbox: Inbox
) -> None:
    await new_session().open()
    peer = await broker.consumer()
    stream = peer.stream(*MESSAGES, piece_max=2)
    await peer.send_in_segments(*(stream[at : at + 1] for at in range(len(stream))))
    assert_all_intact(await inbox.until(3), MESSAGES, 3)


async def test_many_messages_may_come_in_one_segment(
    broker: ScriptedBroker, new_session: NewSession, inbox: Inbox
) -> None:
    inbox.settling = True
    await new_session(prefetch=3000).open()
    peer = await broker.consumer()
    peer.deliver(*MESSAGES * 500)
    assert_all_intact(await inbox.until(1500), MESSAGES, 1500)
    await peer.until_acknowledged(*range(1, 1501))
    assert len(inbox.deliveries) == 1500


@pytest.mark.parametrize("size", [1, ROOM - 1, ROOM, ROOM + 1, 2 * ROOM, 2 * ROOM + 1, 300_000])
async def test_a_body_may_come_in_several_frames(
    broker: ScriptedBroker, new_session: NewSession, inbox: Inbox, size: int
) -> None:
    broker.frame_max = FRAME_MAX
    await new_session().open()
    peer = await broker.consumer()
    assert peer.frame_max == FRAME_MAX
    message = Message(body=bytes(at % 251 for at in range(size)))
    peer.deliver(message, MESSAGES[1], message)
    assert_all_intact(await inbox.until(3), (message, MESSAGES[1], message), 3)


async def test_a_heartbeat_may_come_in_the_midst_of_a_message(
    broker: ScriptedBroker, new_session: NewSession, inbox: Inbox
) -> None:
    await new_session().open()
    peer = await broker.consumer()
    message = Message(body=b"abcd")
    stream = peer.stream(message, piece_max=2)
    last = len(stream) - 10  # the second body frame has two bytes
    peer.send(stream[:last] + HEARTBEAT + stream[last:])
    assert_all_intact(await inbox.until(1), (message,), 1)


async def test_every_combination_of_the_fields_read_early(
    broker: ScriptedBroker, new_session: NewSession, inbox: Inbox
) -> None:
    texts = (None, "", "x", "y" * 255)
    messages = tuple(
        Message(content_type=kind, content_encoding=encoding, message_id=number)
        for kind in texts
        for encoding in texts
        for number in (None, "7")
    )
    await new_session().open()
    peer = await broker.consumer()
    peer.deliver(*messages)
    deliveries = await inbox.until(len(messages))
    for delivery, message in zip(deliveries, messages, strict=True):
        # An empty text and none at all mean the same; the library does not tell them apart.
        assert (delivery.content_type or None) == (message.content_type or None)
        assert (delivery.content_encoding or None) == (message.content_encoding or None)
        assert (delivery.properties.message_id or None) == message.message_id
        assert delivery.body == message.body


@pytest.mark.parametrize("reader", ["lean"], indirect=True)
@pytest.mark.parametrize("what", UNDECODABLE)
async def test_lean_delivers_what_it_cannot_decode(
    broker: ScriptedBroker, new_session: NewSession, inbox: Inbox, what: str
) -> None:
    inbox.settling = True
    session = new_session()
    await session.open()
    peer = await broker.consumer()
    stray = Message(raw_properties=UNDECODABLE[what])
    peer.deliver(MESSAGES[0], stray, MESSAGES[2])
    first, odd, last = await inbox.until(3)
    assert_intact(first, MESSAGES[0])
    assert (odd.body, odd.raw_properties) == (stray.body, stray.raw_properties)
    with pytest.raises(EventError, match="undecodable_properties"):
        _ = odd.properties
    assert_intact(last, MESSAGES[2])
    await peer.until_acknowledged(1, 2, 3)
    assert not session.lost_by_decoding


@pytest.mark.parametrize("reader", ["aio-pika"], indirect=True)
@pytest.mark.parametrize("what", UNDECODABLE)
async def test_aio_pika_says_when_a_message_cost_it_the_connection(
    broker: ScriptedBroker, new_session: NewSession, inbox: Inbox, what: str
) -> None:
    session = new_session()
    await session.open()
    peer = await broker.consumer()
    peer.deliver(MESSAGES[0], Message(raw_properties=UNDECODABLE[what]), MESSAGES[2])
    why = await session.wait_lost()
    assert session.lost_by_decoding
    assert why
    assert [delivery.tag for delivery in inbox.deliveries] in ([], [1])
    assert peer.acks == []


@pytest.mark.parametrize("key", [b"order.\xff", b"\xfe" * 255])
async def test_a_routing_key_that_is_no_text(
    broker: ScriptedBroker, new_session: NewSession, inbox: Inbox, reader: str, key: bytes
) -> None:
    session = new_session()
    await session.open()
    peer = await broker.consumer()
    peer.deliver(Message(routing_key=key))
    if reader == "lean":
        [delivery] = await inbox.until(1)
        assert delivery.routing_key == key.decode(errors="backslashreplace")
    else:
        await session.wait_lost()
        assert session.lost_by_decoding


async def test_values_that_pamqp_reads_but_aio_pika_refuses(
    broker: ScriptedBroker, new_session: NewSession, inbox: Inbox
) -> None:
    """Delivery mode 7 and the expiration "abc": RabbitMQ takes both, if the publisher is old enough."""
    odd = b"\x11\x00" + b"\x07" + short_text("abc")
    await new_session().open()
    peer = await broker.consumer()
    peer.deliver(Message(raw_properties=odd), Message(raw_properties=headers_of(short_text("a") + b"V")))
    first, second = await inbox.until(2)
    assert first.properties.headers == {}
    assert second.properties.headers == {"a": None}


@pytest.mark.parametrize("reader", ["lean"], indirect=True)
@pytest.mark.parametrize("flags", [b"\x80\x00", b"\xc0\x00"])
async def test_properties_end_with_their_frame(
    broker: ScriptedBroker, new_session: NewSession, inbox: Inbox, flags: bytes
) -> None:
    """A content type that says it is 255 bytes long, and has three."""
    session = new_session()
    await session.open()
    peer = await broker.consumer()
    peer.deliver(Message(raw_properties=flags + b"\xffabc", body=b"secret"))
    [delivery] = await inbox.until(1, patience_s=0.5)
    assert "secret" not in (delivery.content_type or "")
