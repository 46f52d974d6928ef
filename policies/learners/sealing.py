"""Seals what a learner saves, so that damaged or foreign bytes are never loaded.

A seal is a digest of what kind of bytes they are, then one of the bytes
themselves. It protects from accidents, not from somebody who can compute a digest.
"""

from __future__ import annotations

from hashlib import blake2b

__all__ = ["is_sealed", "seal", "unseal"]

_KIND_BYTES = 8
_CHECK_BYTES = 16


def seal(kind: str, payload: bytes) -> bytes:
    """Return the payload with a seal in front, the same for the same arguments.

    Args:
        kind: What only a reader of the same kind can make sense of, such as the
            learner's name and those of its settings that shape its state.
        payload: The bytes to protect.
    """
    return (
        _digest(kind.encode(), _KIND_BYTES) + _digest(payload, _CHECK_BYTES) + payload
    )


def unseal(kind: str, blob: bytes) -> bytes:
    """Return the payload of a sealed blob.

    Raises:
        ValueError: If the blob is of another kind, or is not whole.

    Examples:
        >>> blob = seal("pears", b"three")
        >>> unseal("pears", blob)
        b'three'
        >>> unseal("pears", blob[:-1])
        Traceback (most recent call last):
        ValueError: the saved state is damaged: its checksum differs
        >>> unseal("apples", blob)
        Traceback (most recent call last):
        ValueError: the saved state is not of this kind: apples
    """
    header = _KIND_BYTES + _CHECK_BYTES
    if not is_sealed(kind, blob):
        raise ValueError(f"the saved state is not of this kind: {kind}")
    payload = blob[header:]
    if blob[_KIND_BYTES:header] != _digest(payload, _CHECK_BYTES):
        raise ValueError("the saved state is damaged: its checksum differs")
    return payload


def is_sealed(kind: str, blob: bytes) -> bool:
    """Say whether a blob is of a kind, whole or not."""
    return blob[:_KIND_BYTES] == _digest(kind.encode(), _KIND_BYTES)


def _digest(content: bytes, size: int) -> bytes:
    return blake2b(content, digest_size=size).digest()
