"""Ed25519 signatures of this installation, over whatever leaves it or has to prove itself later.

The key is a file of the home (`signing.key`, PKCS#8 in PEM, made at first need, readable by its owner alone); it is never in the
database, a log, an export or an archive. What is public is its other half, and its fingerprint, the SHA-256 of that half: people
tell it each other by another way than the file that was signed. A signature is the plain 64 bytes, so that `openssl pkeyutl
-verify -rawin` checks one without us. Why not keyless signing: it needs a service on the internet to vouch, and this runs without.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ciranda.config import Home
from ciranda.errors import Invalid
from ciranda.store import files

NAME = "signing.key"
PREFIX = "ed25519:"
SIZE = 64  # bytes of a signature


@dataclass(frozen=True)
class Signer:
    """Who signed: the public half in PEM, and its fingerprint, `ed25519:` and 64 hex digits."""

    public: str
    fingerprint: str

    def to_dict(self) -> dict[str, str]:
        """As a manifest holds it."""
        return {"fingerprint": self.fingerprint, "public_key": self.public}


def signer(home: Home) -> Signer:
    """This installation as others know it."""
    return _named(_key(home).public_key())


def sign(home: Home, content: bytes) -> bytes:
    """The signature of a content, 64 bytes."""
    return _key(home).sign(content)


def read(public: str) -> Signer:
    """Whoever a public key in PEM belongs to. Raises Invalid when it is no Ed25519 key."""
    try:
        key = serialization.load_pem_public_key(public.encode())
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise Invalid(
            f"no public key: {error}", where="signer", remedy="ask the sender for an archive that is whole"
        ) from None
    if not isinstance(key, Ed25519PublicKey):
        raise Invalid("the public key is no Ed25519 key", where="signer", remedy="sign with Ciranda")
    return _named(key)


def holds(public: str, content: bytes, signature: bytes) -> bool:
    """Whether a signature is this key's over this content. Raises Invalid when the key is none."""
    read(public)
    key = serialization.load_pem_public_key(public.encode())
    assert isinstance(key, Ed25519PublicKey)
    try:
        key.verify(signature, content)
    except InvalidSignature:
        return False
    return True


def _key(home: Home) -> Ed25519PrivateKey:
    path = home.path / NAME
    try:
        key = serialization.load_pem_private_key(files.once(path, _fresh), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise Invalid(
            f"the signing key cannot be read: {error}", where=str(path), remedy="bring it back from a backup"
        ) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise Invalid("the signing key is no Ed25519 key", where=str(path), remedy="bring it back from a backup")
    return key


def _fresh() -> bytes:
    return Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _named(key: Ed25519PublicKey) -> Signer:
    raw = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()
    return Signer(pem, PREFIX + hashlib.sha256(raw).hexdigest())
