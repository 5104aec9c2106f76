"""Settings that point the pipeline at the local stack: a TOML file, and its secrets beside it."""

from pathlib import Path
from secrets import token_urlsafe
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import tomlkit

from stack.files import write_private
from stack.ports import HOST, choose_port
from stack.status import StackStatus

FILE_NAME = "postorder.toml"
_LINK_SECRET = "public"  # noqa: S105  # the name of a file
_API_SECRET = "api"  # noqa: S105  # as above
_SECRET_BYTES = 32
_SENDER = "+15005550006"  # Twilio's test sender that is always valid


def write_stack_settings(status: StackStatus, folder: Path, *, with_callbacks: bool = False) -> Path:
    """Write the settings file for a stack; return its path.

    `with_callbacks`: the pipeline listens for the emulators' callbacks, messages ask for them, and the API
    listens.
    """
    amqp_url, amqp_password = _without_password(status.amqp_url)
    shards = tomlkit.aot()
    database_password = ""
    for shard in status.shards:
        primary, database_password = _without_password(shard.primary_dsn)
        replica, _ = _without_password(shard.replica_dsn)
        table = tomlkit.table()
        table.update({"name": shard.name, "primary": primary, "replica": replica})
        table["password_file"] = "secrets/postgres"  # noqa: S105  # the name of a file
        shards.append(table)
    document = tomlkit.document()
    document.add(tomlkit.comment("Written by `postorder stack up`, and again at every start."))
    document.update(
        amqp={"url": amqp_url, "password_file": "secrets/amqp"},
        sms={
            "base_url": status.twilio.base_url,
            "account_sid": status.twilio.account_sid,
            "auth_token_file": "secrets/twilio",
            "from_number": _SENDER,
            # Twilio's test recipients, +1 500 555 …, are personal numbers.
            "number_types": ["mobile", "fixed_line_or_mobile", "personal_number"],
        },
        email={"host": status.smtp.host, "port": status.smtp.port, "tls": "none"},
        documents={"allow_http": True},
    )
    path = folder / FILE_NAME
    if with_callbacks:
        before = tomlkit.parse(path.read_text(encoding="utf-8")).unwrap() if path.exists() else {}
        document.update(public=_public_section(before), api=_api_section(before))
    document.add("shards", shards)
    secrets = {"amqp": amqp_password, "postgres": database_password, "twilio": status.twilio.auth_token}
    (folder / "secrets").mkdir(mode=0o700, exist_ok=True)
    for name, secret in secrets.items():
        write_private(folder / "secrets" / name, secret)
    for name in (_LINK_SECRET, _API_SECRET):
        _write_once(folder / "secrets" / name)
    path.write_text(tomlkit.dumps(document), encoding="utf-8")
    return path


def _public_section(before: dict[str, Any]) -> dict[str, Any]:
    """Return the public listener's section. Its port stays as it was: links with it have been given out."""
    port = before.get("public", {}).get("port") or choose_port("public", set())
    secret_file = f"secrets/{_LINK_SECRET}"
    return {
        "port": port,
        "base_url": f"http://{HOST}:{port}",
        "secret_file": secret_file,
        "bounce_secret_file": secret_file,
    }


def _api_section(before: dict[str, Any]) -> dict[str, Any]:
    """Return the API's section. Its port stays as it was, so that a console that is open goes on."""
    port = before.get("api", {}).get("port") or choose_port("api", set())
    return {"port": port, "secret_file": f"secrets/{_API_SECRET}"}


def _write_once(path: Path) -> None:
    if not path.exists():
        write_private(path, token_urlsafe(_SECRET_BYTES))


def _without_password(url: str) -> tuple[str, str]:
    """Split the password out of a URL, which may name several hosts."""
    parts = urlsplit(url)
    hosts = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{parts.username}@{hosts}")), parts.password or ""
