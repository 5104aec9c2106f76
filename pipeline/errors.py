"""Every error Postorder raises. `retryable` says whether trying again later can help."""

from typing import ClassVar


class PostorderError(Exception):
    """An error of Postorder's own; its text is one line for an operator."""

    retryable: ClassVar[bool] = False


class SettingsError(PostorderError):
    """The settings cannot be used. `problems` holds one line per problem, each naming its key."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class ShardMapError(PostorderError):
    """The shards in the settings do not fit what the databases say they own."""


class MigrationError(PostorderError):
    """A migration cannot be applied: changed after it ran, out of order, refused by PostgreSQL, not now."""


class SchemaVersionError(PostorderError):
    """The shards' tables are not level, or not what this program needs."""


class PromotionError(PostorderError):
    """A replica cannot be made the primary, or not without risk. Nothing has changed."""


class ReshardingError(PostorderError):
    """Slots cannot be moved, or not now. What was done before stays, and can be resumed or aborted."""


class CoordinatorReplacedError(ReshardingError):
    """Another process has taken a move over, or ended it: this one may change nothing more."""


class LinkBrokenError(ReshardingError):
    """What carries rows between two shards is gone (a failover, a lost slot) or stopped at an error."""


class RowsDifferError(ReshardingError):
    """Rows of slots that are to move are not the same on both shards. Nothing was flipped."""


# --- events --------------------------------------------------------------------------------------


class EventError(PostorderError):
    """A delivery that is no valid event. It goes to quarantine with `reason`, never to the tables.

    `detail` says where in the document; it never quotes values, which may be personal data.
    `correlation_id`: its order's, where the event was understood so far.
    """

    correlation_id: str | None = None

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


# --- storage and broker ---------------------------------------------------------------------------


class StorageUnavailableError(PostorderError):
    """A database server cannot be used: out of reach, shutting down, demoted, misconfigured."""

    retryable = True


class StorageTimeoutError(PostorderError):
    """A statement or commit got no answer in time: whether it took effect is unknown."""

    retryable = True


class SlotsMovedError(PostorderError):
    """A shard refuses to write: it does not own some of the slots, or not at this moment.

    `epoch` is that of the shard's own map. Read the map again, and go to the owner.
    """

    retryable = True

    def __init__(self, where: str, slots: frozenset[int], epoch: int) -> None:
        super().__init__(f"{where}: does not own {len(slots)} of the slots (epoch {epoch})")
        self.slots = slots
        self.epoch = epoch


class StorageConflictError(PostorderError):
    """PostgreSQL broke off a transaction for concurrency (deadlock, serialization). Run it again."""

    retryable = True


class StorageRejectedError(PostorderError):
    """PostgreSQL refuses this data and will refuse it again."""


class BrokerUnavailableError(PostorderError):
    """The broker cannot be reached or closed the connection."""

    retryable = True


class TopologyError(PostorderError):
    """The broker has a queue or an exchange that is not as this program needs it."""


class RedriveError(PostorderError):
    """A delivery in quarantine cannot be published again as it came."""


class UnroutableError(PostorderError):
    """The broker has no queue for a published event."""


class PublishUnknownError(PostorderError):
    """No confirm came in time: the event may or may not be in the queue. Publish the same id again."""

    retryable = True


# --- providers: the three answers are different types, because the ledger treats them differently ---


class ProviderError(PostorderError):
    """A provider did not accept a message. `code` is its own code, for the ledger."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code


class ThrottledError(ProviderError):
    """Definitely not accepted, and worth another try after `retry_after_s` (None: the sender decides)."""

    retryable = True

    def __init__(self, code: str, text: str, retry_after_s: float | None = None) -> None:
        super().__init__(code, text)
        self.retry_after_s = retry_after_s


class AccountRefusedError(ThrottledError):
    """The account or the sender is refused (401, 403, a wrong set-up): so would every message be by now."""


class HeldBackError(ThrottledError):
    """A limit of our own (a rate, an open circuit, the budget of retries): no provider was asked."""


class RejectedError(ProviderError):
    """Definitely not accepted, and never will be."""


class RecipientRefusedError(RejectedError):
    """Rejected because of the recipient (opted out, no such address): suppressed, not failed."""


class TooLargeError(RejectedError):
    """A mail that is larger than its relay takes."""


class OutcomeUnknownError(ProviderError):
    """The message may have been accepted: never sent again blindly."""


class LeaseEndedError(ProviderError):
    """The claim's time was over before the call was made: nothing was sent, and somebody else may send it."""

    def __init__(self) -> None:
        super().__init__("lease_ended", "the claim's time was over before the call was made")


class EffectError(PostorderError):
    """A message of the ledger that is not there, or of which that cannot be said. Nothing has changed."""


class NoSuchEffectError(EffectError):
    """A message that is not in the ledger, or not any more."""


class CallbackError(PostorderError):
    """A callback that is genuine but cannot be read. The text says what is wrong and quotes nothing."""


class CallbackUnavailableError(PostorderError):
    """What a callback's proof needs cannot be had just now. Nothing was done; the sender comes again."""

    retryable = True


class BusyError(PostorderError):
    """As much is under way as is allowed at once. Nothing was done; come again."""

    retryable = True


class DocumentError(PostorderError):
    """An invoice's document cannot be had or sent: wrong type, too large, or its host refused it."""

    def __init__(self, invoice_id: str, text: str) -> None:
        super().__init__(f"invoice {invoice_id}: {text}")
        self.invoice_id = invoice_id


class DocumentUnavailableError(DocumentError):
    """The document's host did not answer or asked to come back later."""

    retryable = True


# --- who asks ---------------------------------------------------------------------------------------


class TokenError(PostorderError):
    """A token of the API that is not accepted. The text says why, and repeats nothing of it."""
