"""From which address a request comes, behind proxies or not."""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Final

Network = IPv4Network | IPv6Network
_HOPS_MAX: Final = 10
_UNKNOWN: Final = "unknown"


class Addresses:
    """Reads callers' addresses. `trusted`: networks of the proxies that are believed."""

    def __init__(self, trusted: Sequence[str]) -> None:
        self._trusted = [ip_network(network) for network in trusted]

    def key_of(self, scope: Any) -> str:
        """Return what stands for the caller's address: of IPv6 the /64, which is one subscriber's.

        Entries of X-Forwarded-For count from the right, as long as who wrote them is a proxy of ours.
        """
        peer = _parsed(scope["client"][0]) if scope.get("client") else None
        if peer is None:
            return _UNKNOWN
        hops = b",".join(value for name, value in scope["headers"] if name == b"x-forwarded-for")
        for hop in reversed(hops.decode("latin-1").split(",")[-_HOPS_MAX:]):
            if not self._is_trusted(peer):
                break
            named = _parsed(hop.strip())
            if named is None:
                break
            peer = named
        return str(ip_network((peer, 64), strict=False)) if isinstance(peer, IPv6Address) else str(peer)

    def _is_trusted(self, address: IPv4Address | IPv6Address) -> bool:
        return any(address in network for network in self._trusted)


def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    try:
        found = ip_address(text)
    except ValueError:
        return None
    return found.ipv4_mapped or found if isinstance(found, IPv6Address) else found
