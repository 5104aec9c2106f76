"""Which delivery tags of a channel can be acknowledged, in as few frames as possible."""


class AckTracker:
    """Delivery tags of one channel. A tag belongs to the channel that delivered it and to no other.

    Mutable state: `_next` is the lowest tag not settled; `_ahead` are settled ones above it, `_single` those
    of them that were acknowledged by themselves; `_target` is the highest tag for an "all up to" frame.
    RabbitMQ closes the channel when such a frame names a tag acknowledged before, so `_target` never does.
    """

    def __init__(self) -> None:
        self._next = 1
        self._target = 0
        self._acknowledged = 0
        self._ahead: set[int] = set()
        self._single: set[int] = set()

    def __repr__(self) -> str:
        return f"AckTracker(up to {self._next - 1} settled, {len(self._ahead)} ahead)"

    @property
    def ahead(self) -> int:
        """How many settled tags wait, unacknowledged, behind one that is not settled."""
        return len(self._ahead) - len(self._single)

    def settle(self, tag: int) -> None:
        """Note that a delivery is done. O(1) on average."""
        self._ahead.add(tag)
        while self._next in self._ahead:
            self._ahead.remove(self._next)
            if self._next in self._single:
                self._single.remove(self._next)
            else:
                self._target = self._next
            self._next += 1

    def take_multiple(self) -> int | None:
        """Return the tag up to which all can be acknowledged with one frame, if there is news."""
        if self._target == self._acknowledged:
            return None
        self._acknowledged = self._target
        return self._target

    def take_single(self) -> list[int]:
        """Return the settled tags behind an unsettled one, each to be acknowledged by itself."""
        singles = sorted(self._ahead - self._single)
        self._single.update(singles)
        return singles
