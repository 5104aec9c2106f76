"""The emulator's parts on their own: segments, fault plan, ring, message life, message store."""

import random

import pytest

from stack.standin.fault_plan import Fault, FaultPlan, Spread, draw_seconds
from stack.standin.record_ring import RecordRing
from stack.standin.turnstile import Turnstile
from stack.twilio.behaviour import RateLimit, TokenBucket
from stack.twilio.message_list import MessageList
from stack.twilio.messages import Message, MessageStore
from stack.twilio.sms_segments import GSM_EXTENSION, segment_count


@pytest.mark.parametrize(
    ("text", "segments"),
    [
        ("", 1),
        ("a" * 160, 1),
        ("a" * 161, 2),
        ("a" * 306, 2),
        ("a" * 307, 3),
        ("€" * 80, 1),
        ("€" * 81, 2),
        ("[" + "a" * 158, 1),
        ("[" + "a" * 159, 2),
        # The escape does not fit behind 152 characters: a segment ends one short.
        ("a" * 152 + "€" + "a" * 152, 3),
        ("a" * 153 + "€" + "a" * 151, 2),
        ("`", 1),
        ("`" * 71, 2),  # not in GSM 03.38
        ("ж" * 70, 1),
        ("ж" * 71, 2),
        ("ж" * 134, 2),
        ("ж" * 135, 3),
        ("😀" * 35, 1),
        ("😀" * 36, 2),
        ("😀" * 66, 2),  # 33 to a segment: the pair does not straddle
        ("😀" * 67, 3),
        ("Grüße àèéìòù ÄÖÑÜ ΔΦΓΛΩΠΨΣΘΞ", 1),
        ("a" * 69 + "ж", 1),
        ("a" * 70 + "ж", 2),
        (GSM_EXTENSION * 8, 1),
        (GSM_EXTENSION * 9, 2),
    ],
)
def test_segments(text, segments):
    assert segment_count(text) == segments


# --- fault plan ------------------------------------------------------------------------------------


def plan(*faults, seed=1):
    return FaultPlan([Fault(**fault) for fault in faults], random.Random(seed))


def test_first_matching_rule_decides():
    faults = plan({"on": "a", "to": "x"}, {"on": "a", "to_prefix": "x"}, {"on": "b"})
    assert faults.draw("a", ("x",)) is faults.rules[0].fault
    assert faults.draw("a", ("xy",)) is faults.rules[1].fault
    assert faults.draw("a", ("y", "xz")) is faults.rules[1].fault
    assert faults.draw("a", ("y",)) is None
    assert faults.draw("b") is faults.rules[2].fault
    assert faults.draw("c") is None


def test_exact_rules_keep_their_place_among_the_others():
    faults = plan({"on": "a", "count": 1}, {"on": "a", "to": "x", "count": 1}, {"on": "a", "to_suffix": "x"})
    drawn = [faults.draw("a", ("x",)) for _ in range(3)]
    assert drawn == [rule.fault for rule in faults.rules]


def test_prefix_suffix_and_sender_must_all_match():
    faults = plan({"on": "a", "to_prefix": "x", "to_suffix": "@b", "sender": "s"})
    assert faults.draw("a", ("x1@b",), "s") is not None
    assert faults.draw("a", ("x1@b",), "t") is None
    assert faults.draw("a", ("x1", "1@b"), "s") is None


def test_rate_spares_the_count():
    faults = plan({"on": "a", "rate": 0.5, "count": 10})
    drawn = [faults.draw("a") is not None for _ in range(100)]
    assert drawn.count(True) == 10
    assert drawn.index(False) < 10
    (report,) = faults.report()
    assert (report["seen"], report["fired"], report["remaining"]) == (100, 10, 0)


def test_spread_hits_its_percentiles():
    rng = random.Random(1)
    draws = sorted(Spread(p50=20, p99=200).draw_ms(rng) for _ in range(10_000))
    assert draws[5_000] == pytest.approx(20, rel=0.1)
    assert draws[9_900] == pytest.approx(200, rel=0.2)
    assert 0.01 <= draw_seconds(Spread(min=10, max=30), rng) <= 0.03
    assert draw_seconds(5.0, rng) == 0.005


# --- store -----------------------------------------------------------------------------------------


def test_ring_keeps_the_newest():
    ring = RecordRing(3)
    assert [ring.append(letter) for letter in "abcde"] == [None, None, None, "a", "b"]
    assert [ring.get(number) for number in range(7)] == [None, None, None, "c", "d", "e", None]
    assert (ring.oldest_number, ring.next_number, ring.evictions, len(ring)) == (3, 6, 2, 3)
    assert list(ring.upwards(4)) == ["d", "e"]
    assert list(ring.downwards(4)) == ["d", "c"]
    assert list(ring.downwards(99)) == ["e", "d", "c"]
    ring.clear(first=10)
    assert ring.append("z") is None
    assert (ring.get(10), ring.oldest_number) == ("z", 10)


def message(to="+1", sender="+2", body="hello", **fields):
    return Message(to=to, sender=sender, body=body, **fields)


@pytest.mark.parametrize("to", [None, "+1", "+2"])
@pytest.mark.parametrize("sender", [None, "+8", "+9"])
def test_lists_agree_with_a_plain_scan(to, sender):
    rng = random.Random(1)
    store, everything = MessageStore(50), []
    for number in range(300):
        each = message(
            to=rng.choice(["+1", "+2", "+3"]), sender=rng.choice(["+8", "+9", None]), body=f"{number}"
        )
        store.append(each)
        everything.append(each)
    wanted = [
        each.body
        for each in everything[:-51:-1]
        if to in {None, each.to} and (sender is None or sender == each.sender)
    ]
    for size in (1, 7, 50):
        query = {"PageSize": f"{size}"} | ({"To": to} if to else {}) | ({"From": sender} if sender else {})
        assert read_pages(store, query) == wanted


def read_pages(store, query):
    bodies, token = [], {}
    while True:
        page = MessageList(store, "/path", query | token).read(0.0, 0.0, lambda each, _: {"body": each.body})
        bodies += [each["body"] for each in page["messages"]]
        if page["next_page_uri"] is None:
            return bodies
        token = {"PageToken": page["next_page_uri"].partition("PageToken=")[2]}


def test_evicted_messages_leave_nothing_behind():
    store = MessageStore(3)
    for number in range(100):
        store.append(message(to=f"+{number}", sender=f"+{number}", body=f"{number}"))
    assert len(store._latest_to) == len(store._latest_from) == len(store._latest_text) == 3
    assert len(store._earlier_to) == len(store._earlier_from) == len(store._text_keys) == 3


def test_duplicates_are_same_recipient_and_text():
    store = MessageStore(10)
    for to, body in (("+1", "a"), ("+1", "b"), ("+2", "a"), ("+1", "a"), ("+1", "a")):
        store.append(message(to=to, body=body))
    assert store.duplicates == 2
    assert store.first_duplicates == [(1, 4), (4, 5)]


def test_sids_are_of_one_run_only():
    store = MessageStore(10)
    store.append(message())
    store.append(message(media_count=1))
    text, media = store.sid(store.ring.get(1)), store.sid(store.ring.get(2))
    assert (text[:2], media[:2], len(text)) == ("SM", "MM", 34)
    assert store.find(text).number == 1
    assert store.find(media).number == 2
    for wrong in ("", "SM", text[:-1], text + "0", text[:-1] + "x", "MM" + text[2:], "SM" + "0" * 32):
        assert store.find(wrong) is None
    store.clear()
    store.append(message())
    assert store.find(text) is None


def statuses(each, *times):
    return [each.standing(at)[0] for at in times]


@pytest.mark.parametrize(
    ("final", "path"),
    [
        ("delivered", ["queued", "sending", "sent", "delivered"]),
        ("undelivered", ["queued", "sending", "sent", "undelivered"]),
        ("failed", ["queued", "queued", "sending", "failed"]),
        ("sent", ["queued", "queued", "sending", "sent"]),
        ("queued", ["queued", "queued", "queued", "queued"]),
    ],
)
def test_life_of_a_message(final, path):
    each = message(created=100.0, delivery_s=3.0, final=final)
    assert statuses(each, 100.0, 101.2, 102.2, 103.0) == path


def test_times_of_a_message():
    each = message(created=100.0, delivery_s=3.0)
    assert each.standing(100.5) == ("queued", 100.0, None)
    assert each.standing(101.5) == ("sending", 101.0, None)
    assert each.standing(102.5) == ("sent", 102.0, 102.0)
    assert each.standing(999.0) == ("delivered", 103.0, 102.0)


def test_scheduled_message_waits_for_its_time():
    each = message(created=100.0, send_at=1000.0, delivery_s=4.0, initial="scheduled")
    assert statuses(each, 999.0, 1001.0, 1002.0, 1004.0) == ["scheduled", "queued", "sending", "delivered"]
    each.final, each.edited = "canceled", 500.0
    assert each.standing(2000.0) == ("canceled", 500.0, None)


def test_token_bucket_refills(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("stack.twilio.behaviour.time.monotonic", lambda: now[0])
    bucket = TokenBucket(RateLimit(per_s=10, burst=2))
    assert [bucket.take() for _ in range(3)] == [True, True, False]
    now[0] = 0.1
    assert [bucket.take() for _ in range(2)] == [True, False]
    now[0] = 100.0
    assert [bucket.take() for _ in range(3)] == [True, True, False]


async def test_turnstile_wakes_whoever_waits_long_enough():
    turnstile = Turnstile()
    assert await turnstile.reach(0, timeout_s=1)
    assert not await turnstile.reach(1, timeout_s=0.001)
    turnstile.add()
    assert await turnstile.reach(1, timeout_s=1)
    assert turnstile._waiting == []
