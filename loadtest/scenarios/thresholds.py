"""Thresholds as a command line gives them."""

import re

from loadtest.scenarios.scenario import LoadTestError, Threshold

_FORM = re.compile(r"\A(?P<figure>[\w .-]+?)\s*(?P<bound><=|>=)\s*(?P<value>[0-9]+(_[0-9]+)*(\.[0-9]+)?)\Z")


def threshold_of(text: str) -> Threshold:
    """Return the threshold of a text such as `steady.committed.p99_ms<=250`. Raises LoadTestError."""
    found = _FORM.match(text.strip())
    if found is None:
        raise LoadTestError(
            f"--threshold {text!r}: must be FIGURE<=NUMBER or FIGURE>=NUMBER, as steady.committed.p99_ms<=250"
        )
    value = float(found["value"])
    if found["bound"] == "<=":
        return Threshold(figure=found["figure"], at_most=value)
    return Threshold(figure=found["figure"], at_least=value)
