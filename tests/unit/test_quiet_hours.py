"""Quiet hours where the recipient is: zones of numbers and countries, midnight, changes of clocks."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st
from phonenumbers import PhoneNumberFormat, PhoneNumberType, format_number
from phonenumbers.timezone import time_zones_for_number

from pipeline.notifications.rules.quiet_hours import QuietHours
from pipeline.notifications.rules.time_zones import zones_of_country, zones_of_number
from pipeline.settings import RuleSettings
from pipeline.storage.outbox import Kind

BERLIN, NEW_YORK = ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York")


def quiet(begin: str = "21:00", end: str = "08:00", default: str = "Europe/Berlin") -> QuietHours:
    return QuietHours(RuleSettings(quiet_from=begin, quiet_until=end, quiet_kinds=("order_sms",)), default)


def opens(
    hours: QuietHours, now: datetime, number: str | None = None, country: str | None = None
) -> datetime | None:
    """When a message that comes at `now` may go, in UTC; None: at once."""
    wait_s = hours.wait_s(Kind.ORDER_SMS, number, country, now)
    return now.astimezone(UTC) + timedelta(seconds=wait_s) if wait_s else None


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("number", "zones"),
    [
        ("+4930901820", {"Europe/Berlin"}),
        ("+12125550123", {"America/New_York"}),
        (
            "+77012345678",
            {"Asia/Almaty", "Asia/Aqtobe"},
        ),  # a mobile: the plan's zones are those of Russia too
        ("+18091234567", {"America/Santo_Domingo"}),
        ("+883510000000", set()),
        ("+999123456", set()),
    ],
)
def test_a_number_tells_its_zones(number: str, zones: set[str]) -> None:
    assert {zone.key for zone in zones_of_number(number)} == zones


def test_each_number_has_the_zones_that_the_library_finds() -> None:
    """Of each region and kind one, narrowed down to its region."""
    compared = 0
    for region in phonenumbers.SUPPORTED_REGIONS:
        for kind in ("MOBILE", "FIXED_LINE", "TOLL_FREE", "PERSONAL_NUMBER"):
            number = phonenumbers.example_number_for_type(region, getattr(PhoneNumberType, kind))
            if number is None:
                continue
            names = {name for name in time_zones_for_number(number) if name != "Etc/Unknown"}
            own = {zone.key for zone in zones_of_country(phonenumbers.region_code_for_number(number) or "")}
            found = {zone.key for zone in zones_of_number(format_number(number, PhoneNumberFormat.E164))}
            assert found == (names & own or own or names), (region, kind)
            compared += 1
    assert compared > 600


def test_a_country_tells_its_zones() -> None:
    assert [zone.key for zone in zones_of_country("IN")] == ["Asia/Kolkata"]
    assert len(zones_of_country("RU")) > 10
    assert zones_of_country("XX") == zones_of_country("") == ()


@pytest.mark.parametrize(
    ("now", "opening"),
    [
        ("2026-07-01T12:00", None),
        ("2026-07-01T18:59:59", None),
        ("2026-07-01T19:00", "2026-07-02T06:00"),  # 21:00 in Berlin
        ("2026-07-01T23:30", "2026-07-02T06:00"),
        ("2026-07-02T05:59", "2026-07-02T06:00"),
        ("2026-07-02T06:00", None),
        ("2026-01-01T06:59", "2026-01-01T07:00"),  # winter
        # The night in which clocks go forward, and the one in which they go back.
        ("2026-03-28T22:00", "2026-03-29T06:00"),
        ("2026-10-24T22:00", "2026-10-25T07:00"),
    ],
)
def test_the_night_of_a_place(now: str, opening: str | None) -> None:
    found = opens(quiet(), utc(now), "+4930901820")
    assert found == (utc(opening) if opening else None)


@pytest.mark.parametrize(
    ("begin", "end", "now", "opening"),
    [
        # 02:30 does not exist on that day in New York: quiet until what would be 02:30, 07:30 UTC.
        ("22:00", "02:30", "2026-03-08T06:45", "2026-03-08T07:30"),
        # 01:30 comes twice: quiet until the second one, 06:30 UTC.
        ("22:00", "01:30", "2026-11-01T05:30", "2026-11-01T06:30"),
        ("22:00", "01:30", "2026-11-01T06:29", "2026-11-01T06:30"),
        ("22:00", "01:30", "2026-11-01T06:30", None),
        # It begins with the first of two.
        ("01:30", "09:00", "2026-11-01T05:30", "2026-11-01T14:00"),
        ("12:00", "14:00", "2026-06-01T16:30", "2026-06-01T18:00"),  # within a day
    ],
)
def test_hours_that_are_twice_or_not_at_all(begin: str, end: str, now: str, opening: str | None) -> None:
    found = opens(quiet(begin, end), utc(now), "+12125550123")
    assert found == (utc(opening) if opening else None)


def test_of_several_zones_all_must_be_awake() -> None:
    hours = quiet("22:00", "08:00")
    # A toll-free number of the United States may be anywhere from Puerto Rico's zone to Hawaii.
    assert opens(hours, utc("2026-01-15T12:00"), country="US") == utc("2026-01-15T18:00")
    assert opens(hours, utc("2026-01-15T18:00"), country="US") is None
    assert opens(hours, utc("2026-01-16T03:30"), country="US") == utc("2026-01-16T18:00")


def test_where_all_are_never_awake_at_once_the_default_zone_decides() -> None:
    hours = quiet("12:00", "08:00")
    assert opens(hours, utc("2026-07-01T06:30"), country="US") is None  # 08:30 in Berlin
    assert opens(hours, utc("2026-07-01T10:30"), country="US") == utc("2026-07-02T06:00")


def test_whom_nothing_is_known_of_sleeps_where_the_default_zone_is() -> None:
    hours = quiet(default="Asia/Tokyo")
    night = utc("2026-07-01T12:30")
    for number, country in ((None, None), ("0170 1", "XX"), ("+883510000000", "")):
        assert opens(hours, night, number, country) == utc("2026-07-01T23:00")


def test_other_kinds_come_at_night_too() -> None:
    hours = quiet()
    assert hours.wait_s(Kind.ORDER_EMAIL, "+4930901820", None, utc("2026-07-01T23:30")) == 0
    by_default = QuietHours(RuleSettings(), "UTC")
    assert not any(by_default.wait_s(kind, None, None, utc("2026-07-01T23:30")) for kind in Kind)


@given(
    begin=st.integers(0, 1439),
    length=st.integers(1, 1439),
    minute=st.integers(0, 366 * 1440),
    zone=st.sampled_from(["+4930901820", "+12125550123", "+97221234567", "+911123456789", "+5511987654321"]),
)
def test_nobody_is_ever_woken_and_nobody_waits_longer_than_the_window(begin, length, minute, zone) -> None:
    """In any minute of a year: when a message may go, the clock on the wall is outside the quiet hours."""
    end = (begin + length) % 1440
    hours = quiet(f"{begin // 60:02}:{begin % 60:02}", f"{end // 60:02}:{end % 60:02}")
    now = utc("2026-01-01T00:00") + timedelta(minutes=minute)
    wait_s = hours.wait_s(Kind.ORDER_SMS, zone, None, now)
    [place] = zones_of_number(zone)
    wall = (now + timedelta(seconds=wait_s)).astimezone(place)
    since_begin = (wall.hour * 60 + wall.minute - begin) % 1440
    assert since_begin >= length
    assert wait_s <= (length + 60) * 60
