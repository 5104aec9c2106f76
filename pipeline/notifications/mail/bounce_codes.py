"""Which refusals of a mail mean that the mailbox is gone. Source: RFC 3463, RFC 5321 4.2.3, RFC 7505.

Many permanent refusals say nothing of the mailbox: the mail was too large, looked like spam, came from a
network that is on a list. If these took addresses off, one bad day with a large provider would silence all
its customers.
"""

import re
from typing import Final

_BASIC: Final = frozenset(("550", "551", "553"))  # not available, not local, name not allowed
_ENHANCED: Final = frozenset(
    (
        "5.0.0",  # no detail
        "5.1.0",  # other: address
        "5.1.1",  # no such mailbox
        "5.1.2",  # no such system
        "5.1.3",  # not an address
        "5.1.6",  # moved, without a forwarding address
        "5.1.10",  # the domain takes no mail (null MX)
        "5.2.0",  # other: mailbox
        "5.2.1",  # mailbox disabled
        "5.7.13",  # account disabled
    )
)
_STATUS: Final = re.compile(r"(?:(?P<basic>[245]\d\d)[ -]?)?(?P<enhanced>[245]\.\d{1,3}\.\d{1,3})?", re.ASCII)


def is_mailbox_gone(code: str) -> bool:
    """Tell whether a status (`550`, `5.1.1` or `550 5.1.1`) means that the address gets no mail any more.

    The enhanced status counts where there is one: `550 5.7.1` is about us.
    """
    match = _STATUS.fullmatch(code.strip())
    if match is None:
        return False
    if match["enhanced"]:
        return match["enhanced"] in _ENHANCED
    return match["basic"] in _BASIC
