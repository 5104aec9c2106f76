"""How a parked message finds its way back: everything about its trips is in its routing key.

    QUEUE.ATTEMPTS.TRIPS.ORIGINAL-ROUTING-KEY, for example order-processed.0.2.order.processed

Its properties travel byte for byte: what no library can decode or write again comes back as it was.
"""

from consumers.topology import EXCHANGE
from pipeline.ingest.delivery import Delivery
from pipeline.ingest.parking import Parcel

_BYTES_MAX = 255  # of a routing key in AMQP
_COUNT_MAX = 9999
_PARTS = 4


def return_address(parcel: Parcel) -> str:
    """Return the routing key to park a parcel under. A very long original key loses its end."""
    attempts, trips = min(parcel.attempts, _COUNT_MAX), min(parcel.trips, _COUNT_MAX)
    address = f"{parcel.delivery.queue}.{attempts}.{trips}.{parcel.delivery.routing_key}"
    return address.encode()[:_BYTES_MAX].decode(errors="ignore")


def restore(delivery: Delivery) -> None:
    """Give a delivery that comes back its own routing key and its counts."""
    parts = delivery.routing_key.split(".", _PARTS - 1)
    if len(parts) == _PARTS and parts[1].isdecimal() and parts[2].isdecimal():
        delivery.exchange = EXCHANGE
        delivery.attempts, delivery.trips = int(parts[1]), int(parts[2])
        delivery.routing_key = parts[3]
