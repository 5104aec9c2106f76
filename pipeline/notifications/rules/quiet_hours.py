"""Quiet hours: messages that can wait do not come at night, where the recipient is."""

from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from pipeline.notifications.rules.time_zones import zones_of_country, zones_of_number
from pipeline.settings import RuleSettings
from pipeline.storage.outbox import Kind

_HOPS_MAX = 32
_DAY = timedelta(days=1)


class QuietHours:
    """Says how long a message has to wait. `default_zone` counts where nothing is known of the recipient."""

    def __init__(self, settings: RuleSettings, default_zone: str) -> None:
        self._begin = time.fromisoformat(settings.quiet_from)
        self._end = time.fromisoformat(settings.quiet_until)
        self._kinds = {Kind(kind) for kind in settings.quiet_kinds}
        self._default = (ZoneInfo(default_zone),)

    def wait_s(self, kind: Kind, number: str | None, country: str | None, now: datetime) -> float:
        """Return for how many seconds a message has to wait; 0: it may go.

        `number`: the recipient's in E.164. Of several zones all must be awake; where they never are at once,
        the default zone decides.
        """
        if kind not in self._kinds:
            return 0.0
        zones = self._zones(number, country)
        until = self._quiet_until(zones, now)
        if until is None:
            until = self._quiet_until(self._default, now) or now
        return max(0.0, (until - now).total_seconds())

    def _zones(self, number: str | None, country: str | None) -> Sequence[ZoneInfo]:
        by_number = zones_of_number(number) if number and number.startswith("+") else ()
        return by_number or zones_of_country((country or "").upper()) or self._default

    def _quiet_until(self, zones: Sequence[ZoneInfo], now: datetime) -> datetime | None:
        """Return the next moment that is quiet nowhere, if it is now, now. None: none in two days."""
        moment = now
        for _ in range(_HOPS_MAX):
            ends = [end for zone in zones if (end := self._end_of_quiet(zone, moment)) is not None]
            if not ends:
                return moment
            moment = max(ends)
            if moment > now + 2 * _DAY:
                return None
        return None

    def _end_of_quiet(self, zone: ZoneInfo, moment: datetime) -> datetime | None:
        """Return when the quiet hours end that a moment lies in; None: it lies in none.

        Where clocks change, the hours are never shorter than on the clock on the wall: they begin with the
        first of two equal times and end with the last.
        """
        today = moment.astimezone(zone).date()
        for day in (today - _DAY, today):
            end_day = day if self._begin < self._end else day + _DAY
            begin = min(_moments(datetime.combine(day, self._begin, zone)))
            end = max(_moments(datetime.combine(end_day, self._end, zone)))
            if begin <= moment < end:
                return end
        return None


def _moments(local: datetime) -> tuple[datetime, datetime]:
    """Return when a local time is: it may be twice, and one that is skipped is before and after the gap."""
    return local.astimezone(UTC), local.replace(fold=1).astimezone(UTC)
