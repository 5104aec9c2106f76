"""Settings of e-mail: the relay, the connections to it, signatures."""

from typing import Annotated, Literal

from msgspec import Meta

from pipeline.settings.kinds import Count, Port, Seconds, about
from pipeline.settings.pools import SlotSettings

_DOMAIN = r"\A([A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?)?\Z"


class EmailSettings(SlotSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """E-mail by SMTP."""

    host: Annotated[str, about("the relay")] = "127.0.0.1"
    port: Annotated[Port, about("its port")] = 25
    tls: Annotated[
        Literal["starttls", "implicit", "none"], about("`none` only where host is a loopback address")
    ] = "starttls"
    ca_file: Annotated[
        str, about("PEM certificates to trust in place of the system's; empty: the system's")
    ] = ""
    username: Annotated[str, about("for AUTH; empty: no AUTH")] = ""
    password: Annotated[str, about("a secret")] = ""
    helo_name: Annotated[
        str, Meta(pattern=_DOMAIN, max_length=253), about("what EHLO says; empty: from_address's domain")
    ] = ""
    from_address: Annotated[
        str, Meta(pattern=r"\A[!-;=?A-~]+@[A-Za-z0-9.-]+\Z", max_length=254), about("sender of every mail")
    ] = "orders@shop.example"
    concurrency: Annotated[
        Annotated[int, Meta(ge=1, le=1000)],
        about("connections to the relay at once at most; fewer when it is slow"),
    ] = 32
    timeout_s: Annotated[Seconds, about("for each exchange with the relay")] = 10.0
    mails_per_connection: Annotated[Count, about("a connection is renewed after this many")] = 500
    connection_age_s: Annotated[Seconds, about("a connection is renewed at this age")] = 300.0
    connection_idle_s: Annotated[
        Seconds, about("a connection unused for this long is renewed; relays close theirs at about 300 s")
    ] = 30.0
    dkim_domain: Annotated[
        str,
        Meta(pattern=_DOMAIN, max_length=253),
        about("the `d=` of DKIM signatures; empty: mails are not signed"),
    ] = ""
    dkim_selector: Annotated[
        str, Meta(pattern=_DOMAIN, max_length=253), about("the `s=` of DKIM signatures")
    ] = ""
    dkim_key: Annotated[
        str,
        about(
            "a secret: the private key, RSA as PEM or Ed25519 as base64; its file must not be for everybody"
        ),
    ] = ""
