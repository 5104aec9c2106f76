"""The same oracle, guided by coverage: python tests/fuzz/guided_decoder.py [libFuzzer's flags]

Needs Atheris, which is not among the project's dependencies: pip install atheris. An input is a byte that
names content type and key, and a body; a new one is grown by the grammar now and then. `--known=TEXT` names
a finding not to stop at.
"""

import sys
from pathlib import Path
from random import Random

import atheris

sys.path.insert(0, str(Path(__file__).parent.parent))

with atheris.instrument_imports(
    include=["pipeline.ingest", "pipeline.events", "pipeline.storage.copy_format"]
):
    from fuzz.grammar import BATCH, JSON, STRUCTURED, Case, Grower
    from fuzz.oracle import FindingError, Oracle

HEADS = (
    (STRUCTURED, "order.processed"),
    (BATCH, "order.processed"),
    (JSON, "order.processed"),
    (JSON, "invoice.generated"),
    (None, "order.processed.eu"),
    (JSON, "customer.updated"),
)
KNOWN: set[str] = set()
GROWN_EVERY = 4
oracle = Oracle()


def judge(data: bytes) -> None:
    """Judge one input; a finding ends the run, and libFuzzer writes the input to a file."""
    content_type, routing_key = HEADS[data[0] % len(HEADS)] if data else HEADS[0]
    try:
        oracle.judge(Case(data[1:], content_type, routing_key))
    except FindingError as error:
        if str(error) not in KNOWN:
            raise
    oracle.seconds.clear()


def mutate(data: bytes, size_max: int, seed: int) -> bytes:
    """Return a new input: one from the grammar, one damaged by it, or one of libFuzzer's own."""
    random = Random(seed)
    if random.randrange(GROWN_EVERY) or not data:
        if data and random.random() < 0.5:
            return (data[:1] + Grower(random).damaged(data[1:]))[:size_max]
        return atheris.Mutate(data, size_max)
    case = Grower(random).case()
    head = next((at for at, known in enumerate(HEADS) if known[0] == case.content_type), 0)
    return (bytes([head]) + case.body)[:size_max]


if __name__ == "__main__":
    KNOWN.update(flag.removeprefix("--known=") for flag in sys.argv if flag.startswith("--known="))
    arguments = [flag for flag in sys.argv if not flag.startswith("--known=")]
    atheris.Setup(arguments, judge, custom_mutator=mutate)
    atheris.Fuzz()
