"""What a role needs of the settings beyond what the settings themselves ask for."""

from collections.abc import Iterator

from consumers.roles import Role
from pipeline.errors import SettingsError
from pipeline.settings import Settings
from pipeline.settings.contradictions import SECRET_CHARS_MIN


def require_needs(settings: Settings, roles: frozenset[Role]) -> None:
    """Raise SettingsError for what these roles lack: before anything is connected, and in one go.

    A secret is asked for here and not where settings are read, because each role is given its own alone.
    """
    problems = [*_ports(settings, roles)]
    if Role.NOTIFICATIONS in roles:
        problems += _providers(settings)
    elif Role.PUBLIC in roles:
        problems += _signers(settings)
    if roles & {Role.NOTIFICATIONS, Role.PUBLIC} and settings.public.base_url and not settings.public.secret:
        problems.append(f"public.secret: {SECRET_CHARS_MIN} characters or more are needed for base_url")
    if Role.API in roles and settings.api.port and not settings.api.secret:
        problems.append("api.secret: is missing, and the listener on api.port needs it")
    if problems:
        raise SettingsError(problems)


def _ports(settings: Settings, roles: frozenset[Role]) -> Iterator[str]:
    """Tell of each listener that is asked for by name and has no port."""
    ports = {Role.PUBLIC: settings.public.port, Role.API: settings.api.port}
    if roles != frozenset(Role):
        for role in sorted(roles & ports.keys()):
            if not ports[role]:
                yield f"{role}.port: is 0, and --only {role} needs one"


def _signers(settings: Settings) -> Iterator[str]:
    """Tell of each account whose callbacks would all be refused."""
    for where, sms in (("sms", settings.sms), ("sms_second", settings.sms_second)):
        if sms is not None and sms.account_sid and not sms.auth_token:
            yield f"{where}.auth_token: is missing, and callbacks to {where}.account_sid are signed with it"


def _providers(settings: Settings) -> Iterator[str]:
    """Tell of what sending needs and only sending: better now than at the first SMS."""
    for where, sms in (("sms", settings.sms), ("sms_second", settings.sms_second)):
        if sms is not None:
            needed = {
                "account_sid": sms.account_sid,
                "auth_token": sms.auth_token,
                "from_number": sms.from_number or sms.messaging_service_sid,
            }
            yield from (
                f"{where}.{key}: is missing, and notifications need it"
                for key, value in needed.items()
                if not value
            )
    for where, email in (("email", settings.email), ("email_second", settings.email_second)):
        if email is not None and email.dkim_domain and not email.dkim_key:
            yield f"{where}.dkim_key: is missing, and {where}.dkim_domain needs it"
        if email is not None and email.username and not email.password:
            yield f"{where}.password: is missing, and {where}.username needs it"
