"""Two relays for one channel: what a reader sees of a mail does not tell through which of them it came."""

import msgspec
from smtp_relays import mail, open_sink

from consumers.provider_slots import email_providers
from pipeline.clock import SystemClock
from pipeline.settings import EmailSettings, Settings, ShardSettings


async def test_a_mail_has_one_message_id_through_whichever_relay() -> None:
    """Sent again by the other one after an unknown outcome, it is still the same mail to its reader."""
    async with open_sink() as sink:
        first = EmailSettings(port=sink.port, tls="none", from_address="us@shop.example")
        second = msgspec.structs.replace(first, from_address="us@mail.shop.example")
        shard = ShardSettings(name="a", primary="postgresql://a@127.0.0.1:5432/a")
        settings = Settings(shards=[shard], email=first, email_second=second)
        ids = set()
        for provider in email_providers(settings, SystemClock()).values():
            ids.add((await provider.send(mail("ada@example.com", "0a" * 16))).provider_id)
            await provider.close()
        assert ids == {f"<{'0a' * 16}@shop.example>"}
        assert await sink.kept() == {"ada@example.com": 2}
