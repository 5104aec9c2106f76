"""One correlation id for everything about an order, found from wherever one stands."""

from uuid import UUID

from pipeline.observability.correlation import correlation_bytes, correlation_id
from pipeline.sharding.slots import key_digest


def test_it_is_the_ids_of_the_orders_messages_but_for_the_last_byte() -> None:
    found = correlation_id("o-1")
    assert len(bytes.fromhex(found)) == 16
    digest = key_digest("o-1")
    for kind in (1, 2):  # as effect_id_of() makes the ids of an order's SMS and mail
        effect_id = UUID(bytes=digest[:15] + bytes([kind]))
        assert correlation_bytes(effect_id.bytes).hex() == found
        assert effect_id.hex[:-2] == found[:-2]


def test_it_is_pinned() -> None:
    assert correlation_id("o-1") == "5cbdcb742069a5823a0c64b49ce72100"
    assert correlation_id("ö-1") != correlation_id("o-1")
