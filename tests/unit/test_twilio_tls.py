"""TLS of the SMS provider: without a certificate that is trusted, nothing is sent."""

import ssl
from pathlib import Path

import pytest
from scripted_site import CREATED, created, provider_of, send, serving
from smtp_relays import provider_on

from pipeline.errors import SettingsError, ThrottledError
from pipeline.notifications.providers.twilio import TwilioProvider
from pipeline.notifications.providers.twilio_lean import tls_context
from pipeline.settings import SmsSettings
from stack.smtp.certificate import make_certificate, server_context


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_certificate(tmp_path_factory.mktemp("tls"), "localhost")


@pytest.mark.parametrize("client", ["lean", "sdk"])
async def test_tls_with_a_certificate_that_is_trusted(certificate: tuple[Path, Path], client: str) -> None:
    async with serving(created(CREATED), tls=server_context(*certificate)) as site:
        provider = provider_of(
            site,
            base_url=f"https://localhost:{site.port}",
            ca_file=str(certificate[0]),
            client=client,
            timeout_s=5.0,
            connect_timeout_s=5.0,
        )
        assert await send(provider) == CREATED
        await provider.close()


@pytest.mark.parametrize("client", ["lean", "sdk"])
@pytest.mark.parametrize("fault", ["not trusted", "wrong host", "no TLS"])
async def test_without_a_certificate_that_is_trusted_nothing_is_sent(
    certificate: tuple[Path, Path], tmp_path: Path, client: str, fault: str
) -> None:
    served = make_certificate(tmp_path, "elsewhere.example") if fault == "wrong host" else certificate
    tls: ssl.SSLContext | None = server_context(*served)
    if fault == "no TLS":
        tls = None
    host = "127.0.0.2" if fault == "wrong host" else "127.0.0.1"
    async with serving(created(CREATED), tls=tls) as site:
        provider = provider_of(
            site,
            base_url=f"https://{host}:{site.port}",
            ca_file="" if fault == "not trusted" else str(served[0]),
            client=client,
            timeout_s=2.0,
            connect_timeout_s=0.3 if fault == "no TLS" else 2.0,
        )
        with pytest.raises(ThrottledError) as caught:
            await send(provider)
        assert caught.value.code == "unreachable"
        assert site.requests == []
        await provider.close()


def test_old_versions_of_tls_are_not_spoken() -> None:
    context = tls_context(SmsSettings())
    assert context is not None
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


@pytest.mark.parametrize("client", ["lean", "sdk"])
def test_certificates_that_cannot_be_read_are_found_at_start(tmp_path: Path, client: str) -> None:
    (tmp_path / "empty.pem").write_text("")
    for name in ("missing.pem", "empty.pem"):
        with pytest.raises(SettingsError, match=r"sms\.ca_file"):
            TwilioProvider(SmsSettings(client=client, ca_file=str(tmp_path / name)))


def test_certificates_are_read_once(certificate: tuple[Path, Path]) -> None:
    """Reading the system's takes 20 ms and 1 MB each time, and a stack has many providers."""
    own = SmsSettings(ca_file=str(certificate[0]))
    assert tls_context(SmsSettings()) is tls_context(SmsSettings())
    assert tls_context(own) is tls_context(own)
    assert tls_context(own) is not tls_context(SmsSettings())


def test_a_relays_certificates_that_cannot_be_read_are_found_at_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"email\.ca_file: .*missing.pem: cannot be used"):
        provider_on(1, tls="starttls", ca_file=str(tmp_path / "missing.pem"))
