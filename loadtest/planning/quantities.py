"""Numbers with units, as they are typed: rates, sizes, times, shares. Each refusal is one line."""

import math
import re

from pipeline.errors import SettingsError

# A comma stands before three digits only: whoever writes 1,5TB does not mean 15.
_NUMBER = re.compile(
    r"\s*((?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+(?:_[0-9]+)*)(?:\.[0-9]+)?(?:[eE][0-9]+)?)\s*([A-Za-zµ%/]*)\s*\Z"
)
_SCALES = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}
_RATES = {"": 1.0, "/s": 1.0, "/min": 1 / 60, "/h": 1 / 3600, "/d": 1 / 86_400}
_BYTES = {
    **{f"{prefix}B": 1000.0**power for power, prefix in enumerate(("", "k", "M", "G", "T", "P"))},
    **{f"{prefix}iB": 1024.0**power for power, prefix in enumerate(("K", "M", "G", "T", "P"), start=1)},
    "KB": 1e3,
}
_SECONDS = {"ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}


def rate_of(option: str, text: str) -> float:
    """Return a rate per second: `500`, `500/s`, `10M/min`, `2k/h`. Raises SettingsError."""
    number, unit = _parts(option, text, "a rate such as 500/s or 10M/min")
    scale, slash, per = unit.partition("/")
    if scale not in _SCALES or slash + per not in _RATES:
        raise SettingsError([f"{option}: {unit!r} is no unit of a rate: k, M or G, then /s, /min, /h or /d"])
    return _above_zero(option, text, number * _SCALES[scale] * _RATES[slash + per])


def bytes_of(option: str, text: str) -> float:
    """Return bytes: `72GB`, `30TB`, `1.5TiB`; B is a thousandfold, iB 1024-fold. Raises SettingsError."""
    number, unit = _parts(option, text, "a size such as 72GB or 30TB")
    if unit not in _BYTES:
        raise SettingsError([f"{option}: must be a size with its unit, such as 72GB or 30TB, not {text!r}"])
    return _above_zero(option, text, number * _BYTES[unit])


def seconds_of(option: str, text: str) -> float:
    """Return seconds: `250ms`, `1s`, `30min`, `2h`, `7d`. Raises SettingsError."""
    number, unit = _parts(option, text, "a time such as 250ms or 30min")
    if unit not in _SECONDS:
        raise SettingsError([f"{option}: must be a time with its unit, such as 250ms or 30min, not {text!r}"])
    return _above_zero(option, text, number * _SECONDS[unit])


def share_of(option: str, text: str) -> float:
    """Return a share from 0 to 1: `0.3` or `30%`. Raises SettingsError."""
    number, unit = _parts(option, text, "a share such as 0.3 or 30%")
    share = number / 100 if unit == "%" else number
    if unit not in {"", "%"} or not 0 <= share <= 1:
        raise SettingsError([f"{option}: must be a share from 0 to 1 (or from 0% to 100%), not {text!r}"])
    return share


def _parts(option: str, text: str, wanted: str) -> tuple[float, str]:
    found = _NUMBER.match(text)
    if found is None:
        raise SettingsError([f"{option}: must be {wanted}, not {text!r}"])
    return float(found[1].replace("_", "").replace(",", "")), found[2]


def _above_zero(option: str, text: str, value: float) -> float:
    if not 0 < value < math.inf:
        raise SettingsError([f"{option}: must be above 0, not {text!r}"])
    return value
