"""Which of the 4096 slots a key belongs to. Pinned for ever: rows are stored under it.

    hash64(key) = the first 8 bytes of SHA-256 of the key's UTF-8 text, read as a big-endian number
    slot(key)   = hash64(key) mod 4096

SHA-256, because every language and PostgreSQL itself (`sha256(bytea)`) can compute it, so that a
publisher, an operator and a migration can all check a slot; it costs 0.8 µs here, like BLAKE2b.
"""

from hashlib import sha256

SLOT_COUNT = 4096
HASH_BYTES = 8
_SLOT_MASK = SLOT_COUNT - 1


def key_digest(key: str) -> bytes:
    """Return the 32 bytes that both the slot and the ids of the order's messages come from."""
    return sha256(key.encode()).digest()


def hash64(key: str) -> int:
    """Return the pinned 64-bit hash of a key."""
    return int.from_bytes(hash64_bytes(key.encode()), "big")


def hash64_bytes(key: bytes) -> bytes:
    """Return hash64 of a key's UTF-8 text as 8 bytes, which sort as the numbers do."""
    return sha256(key).digest()[:HASH_BYTES]


def slot_of_digest(digest: bytes) -> int:
    """Return the slot of a key whose digest is at hand."""
    return ((digest[6] << 8) | digest[7]) & _SLOT_MASK


def slot_of(key: str) -> int:
    """Return the slot of a key: 0 … 4095."""
    return slot_of_digest(key_digest(key))
