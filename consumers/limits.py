"""What `postorder limits` does: limits of pools that count instead of those of the settings."""

import msgspec

from consumers.audited import audited, operator
from consumers.provider_slots import email_sections, sms_sections
from consumers.reachable import reachable
from pipeline.clock import SystemClock
from pipeline.control.limit_board import LimitBoard, Written
from pipeline.control.limit_ranges import LimitRange, limit_ranges
from pipeline.control.report_board import CURRENT_S, ReportBoard
from pipeline.errors import SettingsError
from pipeline.settings import Settings
from pipeline.storage.control import LimitOverride


class ShownLimit(msgspec.Struct, frozen=True, kw_only=True):
    """A limit: its bounds, and what is set instead of the settings' (None: nothing).

    `processes`: those that send and have spoken in the last ten seconds; `applied`: of these, those that go
    by it.
    """

    range: LimitRange
    override: LimitOverride | None
    applied: int
    processes: int


def ranges_of(settings: Settings) -> dict[str, LimitRange]:
    """Return the limits that can be set, by key."""
    return limit_ranges({**sms_sections(settings), **email_sections(settings)})


def checked(settings: Settings, key: str, value: float | None) -> LimitRange:
    """Return a limit by its key. Raises SettingsError for none, and for a value out of its bounds."""
    ranges = ranges_of(settings)
    found = ranges.get(key)
    if found is None:
        raise _unknown(key, ranges)
    if value is not None and not found.floor <= value <= found.ceiling:
        bounds = f"from {found.floor:g} to {found.ceiling:g} {found.unit}, by the settings"
        raise SettingsError([f"VALUE: {key} goes {bounds}, not {value:g}"])
    return found


async def list_limits(settings: Settings) -> list[ShownLimit]:
    """Return every limit that can be set."""
    async with reachable(settings) as cluster:
        clock = SystemClock()
        limits = await LimitBoard(cluster, clock).survey()
        reports = [
            seen.report
            for seen in await ReportBoard(cluster, clock).read()
            if seen.age_s <= CURRENT_S and seen.report is not None and seen.report.pools
        ]
    shown = []
    for key, limit_range in ranges_of(settings).items():
        limit = limits.get(key)
        if limit is not None and not limit.counts:
            limit = None
        applied = sum(any(one.key == key for one in report.limits) for report in reports)
        shown.append(ShownLimit(range=limit_range, override=limit, applied=applied, processes=len(reports)))
    return shown


async def set_limit(settings: Settings, key: str, value: float, for_s: float | None) -> Written:
    """Have a limit count, on record. Raises SettingsError as `checked` does."""
    checked(settings, key, value)
    until = "until it is removed" if for_s is None else f"for {for_s:g} s"
    async with (
        reachable(settings) as cluster,
        audited(cluster, "limits.set", key, f"{value:g} {until}") as action,
    ):
        written = await LimitBoard(cluster, SystemClock()).set(key, value, by=operator(), for_s=for_s)
        action.detail = _where(written)
    return written


async def remove_limit(settings: Settings, key: str) -> Written:
    """Have the settings count again, on record. A key that the settings no longer know is removed as well.

    Raises SettingsError for one that was never set either.
    """
    async with reachable(settings) as cluster:
        board, ranges = LimitBoard(cluster, SystemClock()), ranges_of(settings)
        if key not in ranges and key not in await board.survey():
            raise _unknown(key, ranges)
        async with audited(cluster, "limits.remove", key) as action:
            written = await board.remove(key, by=operator())
            action.detail = _where(written)
    return written


def _unknown(key: str, ranges: dict[str, LimitRange]) -> SettingsError:
    return SettingsError([f"KEY: {key!r} is no limit: choose from {', '.join(ranges)}"])


def _where(written: Written) -> str:
    away = f"; away: {', '.join(written.away)}" if written.away else ""
    return f"on {', '.join(written.homes)}{away}"
