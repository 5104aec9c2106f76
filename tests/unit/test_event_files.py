"""Events out of files, each with the line it begins at."""

import json
from time import process_time

import pytest
from real_stack import order_event

from consumers.event_files import find_events
from pipeline.ingest.decoder import Decoder

decoder = Decoder(message_bytes_max=100_000)
ONE, TWO = json.dumps(order_event("o-1")), json.dumps(order_event("o-2"))
PRETTY = json.dumps(order_event("o-3"), indent=2)
WRONG = json.dumps(order_event("o-4", total=1))
DIGITS = "9" * 5000  # Python makes no int of more than 4300
LINES = order_event("o-5")["data"]["lines"] * 200
LONG = json.dumps(order_event("o-5", lines=LINES), indent=2)  # much more than the decoder gets at first


def found(text: str) -> list[tuple[int, str]]:
    return [(int(event.place), event.problem.split(":")[0]) for event in find_events(text, decoder)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("\n \n", []),
        ("[]", []),
        (ONE, [(1, "")]),
        (f"{ONE}\n{TWO}\n", [(1, ""), (2, "")]),
        (f"{ONE}\r\n\r\n{TWO}\r\n", [(1, ""), (3, "")]),
        (f"\n{PRETTY}\n{ONE}", [(2, ""), (3 + PRETTY.count("\n"), "")]),
        (f"[{ONE},\n {TWO}]", [(1, ""), (2, "")]),
        (f"[\n{PRETTY}\n,\n{WRONG}\n]", [(2, ""), (4 + PRETTY.count("\n"), "invalid_data")]),
        (f"{ONE}\nnot json\n{TWO}", [(1, ""), (2, "malformed_json"), (3, "")]),
        (f'{ONE}\n{{"a": \n{TWO}', [(1, ""), (2, "malformed_json"), (3, "")]),
        (f"[{ONE},\nnot json,\n{TWO}]", [(1, ""), (2, "malformed_json")]),
        ("1\n[2]\nnull", [(1, "invalid_envelope"), (2, "invalid_envelope"), (3, "invalid_envelope")]),
        ("[" * 100_000, [(1, "malformed_json")]),
        (f"{DIGITS}\n{ONE}\n[{DIGITS}", [(1, "malformed_json"), (2, ""), (3, "malformed_json")]),
        (f'{{"n": {DIGITS}}}\n{ONE}', [(1, "malformed_json"), (2, "")]),
        (f'{ONE}\n{{"a": "b\nc"}}', [(1, ""), (2, "malformed_json"), (3, "malformed_json")]),
        (f"{LONG}\n{ONE}", [(1, ""), (1 + LONG.count("\n") + 1, "")]),
        (f"[{LONG},\n{LONG}]", [(1, ""), (1 + LONG.count("\n") + 1, "")]),
    ],
)
def test_each_event_and_each_problem_has_its_line(text: str, expected: list[tuple[int, str]]) -> None:
    assert found(text) == expected


def test_a_body_is_published_as_it_stands_in_the_file() -> None:
    [event] = find_events(f"\n{PRETTY}\n", decoder)
    assert event.body == PRETTY.encode()
    assert event.routing_key == "order.processed"


@pytest.mark.parametrize("line", [ONE, "not json", '{"a": "b'], ids=["good", "bad", "cut off"])
def test_a_long_file_takes_time_by_its_length(line: str) -> None:
    """20,000 lines took 47 s."""
    text = f"{line:500}\n" * 20_000
    began_s = process_time()
    places = [event.place for event in find_events(text, decoder)]
    took_s = process_time() - began_s
    assert places == [str(number) for number in range(1, 20_001)]
    assert took_s < 5
