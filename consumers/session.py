"""What a consumer needs of whatever reads its queue: the contract that the conformance suite holds to."""

from typing import Protocol


class Session(Protocol):
    """One connection's life: deliveries of one queue, and the acknowledgements that belong to it."""

    async def open(self) -> None:
        """Connect and begin to deliver. Raises BrokerUnavailableError."""

    async def wait_lost(self) -> str:
        """Return why, when the connection, its channel or its consumer has ended."""

    def pause(self, paused: bool) -> None:  # noqa: FBT001  # the one argument is the state
        """Stop or go on taking messages in; the broker keeps what is not taken."""

    async def set_prefetch(self, prefetch: int) -> None:
        """Have the broker deliver up to so many unsettled ones from now on. Who fails at it is lost.

        What was delivered stays, and is settled as before, so that for a while there may be as many again.
        """

    async def cancel(self) -> None:
        """Take no more deliveries. What was delivered is still acknowledged when settled."""

    async def close(self) -> None:
        """Send the last acknowledgements and close. What is open stays with the broker."""

    @property
    def open_deliveries(self) -> int:
        """How many deliveries are not settled."""

    @property
    def lost_by_decoding(self) -> bool:
        """Whether the end came from a message that the reader cannot read."""
