"""A service's system calls and address families restricted as its systemd unit says, without systemd running.

    python tests/unit_sandbox.py UNIT PROGRAM-ARGUMENTS...     # `postorder` inside the filter

The groups of calls are systemd's own (`systemd-analyze syscall-filter`), the filter is made by libseccomp, as
systemd makes it. Of the unit's other restrictions none is taken on here.
"""

import ctypes
import errno
import re
import runpy
import socket
import subprocess
import sys
from pathlib import Path

_LIBRARY = "libseccomp.so.2"
_ALLOW = 0x7FFF_0000
_REFUSE = 0x0005_0000  # or'ed with an errno
_EQUAL = 4
_UNKNOWN = -1
_FAMILIES_MAX = 46


class _Comparison(ctypes.Structure):
    """`struct scmp_arg_cmp`: an argument of the call, and what it is compared with."""

    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("value", ctypes.c_uint64),
        ("unused", ctypes.c_uint64),
    )


def missing() -> str:
    """Why this cannot be done here; empty when it can."""
    try:
        ctypes.CDLL(_LIBRARY)
        subprocess.run(["systemd-analyze", "--version"], check=True, capture_output=True, timeout=20)
    except (OSError, subprocess.SubprocessError) as error:
        return f"needs systemd-analyze and libseccomp: {error}"
    return ""


def values(unit: Path, key: str) -> list[str]:
    """Every value of a key, words of all lines."""
    return " ".join(re.findall(rf"^{key}=(.*)$", unit.read_text(), re.MULTILINE)).split()


def allowed_calls(unit: Path) -> set[str]:
    """The system calls that `SystemCallFilter=` leaves: line by line, ~ takes away."""
    groups = _groups()
    found: set[str] = set()
    for line in re.findall(r"^SystemCallFilter=(.*)$", unit.read_text(), re.MULTILINE):
        calls = _calls(line.removeprefix("~").split(), groups)
        found = found - calls if line.startswith("~") else found | calls
    return found


def _groups() -> dict[str, list[str]]:
    told = subprocess.run(
        ["systemd-analyze", "syscall-filter", "--no-pager"],
        check=True,
        capture_output=True,
        text=True,
        timeout=20,
    ).stdout
    groups: dict[str, list[str]] = {}
    name = ""
    for line in told.splitlines():
        if line.startswith("@"):
            name = line.strip()
            groups[name] = []
        elif name and line.startswith("    ") and not line.strip().startswith("#"):
            groups[name].append(line.strip())
    return groups


def _calls(names: list[str], groups: dict[str, list[str]]) -> set[str]:
    found: set[str] = set()
    for name in names:
        found |= _calls(groups[name], groups) if name.startswith("@") else {name}
    return found


def restrict(unit: Path) -> None:
    """Take on the filter, for this process and all that it starts."""
    library = ctypes.CDLL(_LIBRARY, use_errno=True)
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_init.argtypes = [ctypes.c_uint32]
    library.seccomp_rule_add_array.argtypes = [
        *(ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.POINTER(_Comparison))
    ]
    library.seccomp_load.argtypes = [ctypes.c_void_p]
    context = library.seccomp_init(_REFUSE | errno.EPERM)

    def add(action: int, name: str, *comparisons: _Comparison) -> None:
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number == _UNKNOWN:
            return  # a call of another architecture or a newer kernel
        array = (_Comparison * len(comparisons))(*comparisons)
        result = library.seccomp_rule_add_array(context, action, number, len(comparisons), array)
        assert result in (0, -errno.EEXIST, -errno.EFAULT), (name, result)

    for name in sorted(allowed_calls(unit) - {"socket"}):
        add(_ALLOW, name)
    families = {getattr(socket, name) for name in values(unit, "RestrictAddressFamilies")}
    for family in range(_FAMILIES_MAX):
        action = _ALLOW if family in families else _REFUSE | errno.EAFNOSUPPORT
        add(action, "socket", _Comparison(0, _EQUAL, family, 0))
    assert library.seccomp_load(context) == 0


def main() -> None:
    """Run the program inside the filter."""
    unit, *arguments = sys.argv[1:]
    restrict(Path(unit))
    sys.argv = ["postorder", *arguments]
    runpy.run_module("consumers", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
