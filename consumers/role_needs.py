"""What a role needs of the settings beyond what the settings themselves ask for."""

from consumers.roles import Role
from pipeline.errors import SettingsError
from pipeline.settings import Settings


def require_ports(settings: Settings, roles: frozenset[Role]) -> None:
    """Raise SettingsError for a listener that is asked for by name and has no port."""
    ports = {Role.PUBLIC: settings.public.port, Role.API: settings.api.port}
    missing = [] if roles == frozenset(Role) else [role for role in roles & ports.keys() if not ports[role]]
    if missing:
        raise SettingsError([f"{role}.port: is 0, and --only {role} needs one" for role in sorted(missing)])


def require_providers(settings: Settings) -> None:
    """Raise SettingsError for what sending needs and only sending: better now than at the first SMS."""
    needed = {}
    for where, sms in (("sms", settings.sms), ("sms_second", settings.sms_second)):
        if sms is not None:
            needed[f"{where}.account_sid"] = sms.account_sid
            needed[f"{where}.auth_token"] = sms.auth_token
            needed[f"{where}.from_number"] = sms.from_number or sms.messaging_service_sid
    missing = [f"{key}: is missing, and notifications need it" for key, value in needed.items() if not value]
    if missing:
        raise SettingsError(missing)
