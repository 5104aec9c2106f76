"""The local stack's settings: with the listener for callbacks where a user runs it, without it in tests."""

from pathlib import Path

from consumers.stack_settings import write_stack_settings
from pipeline.settings import load_settings
from stack.status import ShardEndpoints, SmtpEndpoints, StackStatus, TwilioEndpoints

STATUS = StackStatus(
    running=True,
    amqp_url="amqp://postorder:amqp-password@127.0.0.1:27672/",
    management_url=None,
    shards=[
        ShardEndpoints(
            name="shard0",
            primary_dsn="postgresql://postorder:pg-password@127.0.0.1:27432/postorder",
            replica_dsn="postgresql://postorder:pg-password@127.0.0.1:27433/postorder",
        )
    ],
    smtp=SmtpEndpoints(host="127.0.0.1", port=27025, api_url="http://127.0.0.1:27026/_control"),
    twilio=TwilioEndpoints(
        base_url="http://127.0.0.1:27080",
        account_sid="AC" + "1" * 32,
        auth_token="token",
        api_url="http://127.0.0.1:27080/_control",
    ),
    pids={},
    components={},
    data_dir="",
)


def test_a_users_stack_listens_and_stays_where_it_is(tmp_path: Path) -> None:
    first = load_settings(write_stack_settings(STATUS, tmp_path, with_callbacks=True), {}).public
    assert first.port > 0
    assert first.base_url == f"http://127.0.0.1:{first.port}"
    assert len(first.secret) >= 32
    # Links that were given out go on working after the next start.
    again = load_settings(write_stack_settings(STATUS, tmp_path, with_callbacks=True), {}).public
    assert (again.port, again.secret) == (first.port, first.secret)
    assert (tmp_path / "secrets/public").stat().st_mode & 0o077 == 0
    assert first.secret not in (tmp_path / "postorder.toml").read_text()


def test_a_tests_stack_does_not(tmp_path: Path) -> None:
    public = load_settings(write_stack_settings(STATUS, tmp_path), {}).public
    assert (public.port, public.base_url) == (0, "")


def test_the_api_of_a_users_stack_stays_where_it_is_too(tmp_path: Path) -> None:
    first = load_settings(write_stack_settings(STATUS, tmp_path, with_callbacks=True), {})
    assert first.api.port not in {0, first.public.port}
    assert len(first.api.secret) >= 32
    assert first.api.secret != first.public.secret
    assert load_settings(write_stack_settings(STATUS, tmp_path, with_callbacks=True), {}).api == first.api
    assert load_settings(write_stack_settings(STATUS, tmp_path / "."), {}).api.port == 0
