"""A fuzzer of the decoder: python tests/fuzz/fuzz_decoder.py --seconds 60 [--seed N]

Prints the seed and the input of the first finding, and exits with 1. `--input` judges one input again.
"""

import argparse
import ast
import sys
from base64 import b64decode, b64encode
from pathlib import Path
from random import Random
from time import monotonic

sys.path.insert(0, str(Path(__file__).parent.parent))

from fuzz.grammar import Case, Grower
from fuzz.oracle import FindingError, Oracle

P99_S_MAX = 0.050


def main() -> int:
    """Fuzz for a while, or judge one input."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, help="default: a new one, which is printed")
    parser.add_argument("--input", help="the base64 that a finding was printed with")
    parser.add_argument("--known", action="append", default=[], help="a finding's text, not to stop at")
    options = parser.parse_args()
    oracle = Oracle()
    if options.input:
        oracle.judge(Case(*ast.literal_eval(b64decode(options.input).decode())))
        say(f"nothing found: {oracle.outcomes}")
        return 0
    seed = Random().getrandbits(32) if options.seed is None else options.seed
    say(f"seed {seed}")
    grower = Grower(Random(seed))
    ends_at = monotonic() + options.seconds
    while monotonic() < ends_at:
        case = grower.case()
        try:
            oracle.judge(case)
        except Exception as error:  # noqa: BLE001  # whatever it is, it is a finding
            if str(error) not in options.known:
                return failed(seed, case, error)
    return report(oracle, seed)


def say(text: str) -> None:
    """Write a line at once: a fuzzer may run for long."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def failed(seed: int, case: Case, error: Exception) -> int:
    """Say how to see the finding again. A case is written as a Python literal, in base64."""
    what = str(error) if isinstance(error, FindingError) else f"unexpected {type(error).__name__}: {error}"
    say(f"FOUND: {what}")
    if error.__cause__ is not None:
        say(f"  from {type(error.__cause__).__name__}: {error.__cause__}")
    say(f"  seed {seed}, body {case.body[:300]!r}, {case.content_type}, headers {dict(case.headers)}")
    say(f"  --input {b64encode(repr((*case[:3], dict(case.headers))).encode()).decode()}")
    return 1


def report(oracle: Oracle, seed: int) -> int:
    """Print times and outcomes; too slow is a finding as well."""
    times = sorted(oracle.seconds)
    p99 = times[len(times) * 99 // 100]
    say(f"{len(times)} deliveries: p99 {p99 * 1000:.2f} ms, longest {times[-1] * 1000:.2f} ms")
    for outcome, count in sorted(oracle.outcomes.items(), key=lambda item: -item[1]):
        say(f"  {count:9} {outcome}")
    if p99 > P99_S_MAX:
        say(f"FOUND: p99 above {P99_S_MAX * 1000:g} ms; seed {seed}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
