"""Which errors are worth another try. A new class has to be put here by hand, and so be thought about."""

import inspect

from pipeline import errors

RETRYABLE = {
    "SlotsMovedError",
    "StorageUnavailableError",
    "StorageTimeoutError",
    "StorageConflictError",
    "BrokerUnavailableError",
    "PublishUnknownError",
    "ThrottledError",
    "AccountRefusedError",
    "HeldBackError",
    "DocumentUnavailableError",
    "BusyError",
    "CallbackUnavailableError",
}
FINAL = {
    "PostorderError",
    "SettingsError",
    "ShardMapError",
    "MigrationError",
    "SchemaVersionError",
    "PromotionError",
    "ReshardingError",
    "CoordinatorReplacedError",
    "LinkBrokenError",
    "RowsDifferError",
    "EventError",
    "StorageRejectedError",
    "TopologyError",
    "RedriveError",
    "UnroutableError",
    "ProviderError",
    "RejectedError",
    "TooLargeError",
    "RecipientRefusedError",
    "OutcomeUnknownError",
    "LeaseEndedError",
    "DocumentError",
    "CallbackError",
    "EffectError",
    "NoSuchEffectError",
    "TokenError",
}


def test_every_error_says_whether_another_try_can_help() -> None:
    classes = {name: found for name, found in inspect.getmembers(errors, inspect.isclass) if "Error" in name}
    assert {name for name, found in classes.items() if found.retryable} == RETRYABLE
    assert {name for name, found in classes.items() if not found.retryable} == FINAL
    assert all(issubclass(found, errors.PostorderError) for found in classes.values())
