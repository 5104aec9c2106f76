"""A process that does not outlive its parent."""

import ctypes
import os
import signal
from typing import Final

_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h


def end_with(parent: int) -> bool:
    """Have the kernel send SIGTERM to this process when its parent ends. False: it has ended already."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:  # Linux alone; elsewhere the end of the socket says the same
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    return os.getppid() == parent
