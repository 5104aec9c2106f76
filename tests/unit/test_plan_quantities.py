"""Numbers with units, as an operator types them."""

import pytest

from loadtest.planning.quantities import bytes_of, rate_of, seconds_of, share_of
from pipeline.errors import SettingsError


@pytest.mark.parametrize(
    ("text", "per_s"),
    [
        ("500", 500.0),
        ("500/s", 500.0),
        ("10M/s", 1e7),
        ("10M/min", 1e7 / 60),
        ("2.5k/h", 2500 / 3600),
        ("1_000", 1000.0),
        ("1,000/s", 1000.0),
        ("1,234,567.5", 1_234_567.5),
        (" 7 /s", 7.0),
        ("1e3", 1000.0),
    ],
)
def test_rates(text: str, per_s: float) -> None:
    assert rate_of("--rate", text) == pytest.approx(per_s)


@pytest.mark.parametrize(
    ("text", "size"),
    [("72GB", 72e9), ("30TB", 30e12), ("1TiB", 2**40), ("1.5 GB", 1.5e9), ("10KB", 1e4), ("1B", 1.0)],
)
def test_sizes(text: str, size: float) -> None:
    assert bytes_of("--data", text) == size


@pytest.mark.parametrize(
    ("text", "seconds"), [("250ms", 0.25), ("1s", 1.0), ("30min", 1800.0), ("2h", 7200.0), ("7d", 604_800.0)]
)
def test_times(text: str, seconds: float) -> None:
    assert seconds_of("--p99", text) == seconds


@pytest.mark.parametrize(
    ("text", "share"), [("0", 0.0), ("0.3", 0.3), ("30%", 0.3), ("1", 1.0), ("100%", 1.0)]
)
def test_shares(text: str, share: float) -> None:
    assert share_of("--share", text) == pytest.approx(share)


@pytest.mark.parametrize("parse", [rate_of, bytes_of, seconds_of, share_of])
@pytest.mark.parametrize("text", ["", "x", "-5", "-0.1", "nan", "inf", "1e999999", "--", "5 5", "٣", "1.2.3"])
def test_what_is_no_number_is_refused_in_one_line(parse, text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse("--option", text)
    assert len(caught.value.problems) == 1
    assert caught.value.problems[0].startswith("--option: ")


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (rate_of, "0"),
        (rate_of, "5/x"),
        (rate_of, "5TB"),
        (bytes_of, "0GB"),
        (bytes_of, "30"),
        (bytes_of, "30Gb"),
        (bytes_of, "30/s"),
        (seconds_of, "1"),
        (seconds_of, "0ms"),
        (seconds_of, "5M"),
        (share_of, "1.01"),
        (share_of, "130%"),
        (share_of, "1s"),
        (rate_of, "1,5k/s"),
        (rate_of, "1_"),
        (bytes_of, "1,5TB"),
        (bytes_of, "1,4500GB"),
        (seconds_of, "0,5s"),
    ],
)
def test_zero_missing_and_wrong_units_are_refused(parse, text: str) -> None:
    with pytest.raises(SettingsError, match=r"--option: .*must|--option: .*no unit"):
        parse("--option", text)
