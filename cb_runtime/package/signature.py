"""Ed25519 signatures of packages: who wrote this file?

What is signed is the digest of `manifest.json`, which in turn has the digest of every other member. Keys are PEM files
as openssl writes them (`openssl genpkey -algorithm ed25519`). The library is imported when a key is first used.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cb_runtime.errors import ModelError, UsageError, require
from cb_runtime.files import atomic_path

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

ALGORITHM = "ed25519"

_PURPOSE = b"cb package 1\n"
"""Signed together with the digest, so that the signature can never be taken for one of something else."""

_MAKE_KEYS = "Make a pair of keys with: cb package keygen NAME"


def make_keys(name: str | Path) -> tuple[Path, Path]:
    """Write a new pair of keys, `name.key` (private, readable by its owner only) and `name.pub`; return both paths.

    Raises UsageError when one of them is there already.
    """
    require("cryptography")
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

    private, public = Path(f"{name}.key"), Path(f"{name}.pub")
    for place in (private, public):
        if place.exists():
            raise UsageError(f"{place} is there already, and a lost key cannot be had back. Choose another name.")
    key = Ed25519PrivateKey.generate()
    with atomic_path(private) as temporary:
        temporary.chmod(0o600)
        temporary.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with atomic_path(public) as temporary:
        temporary.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return private, public


def sign_manifest(manifest: bytes, private_key: str | Path) -> bytes:
    """Return the content of `manifest.sig` for the content of `manifest.json`.

    Raises UsageError when the key cannot be used, MissingPackageError when `cryptography` is not installed.
    """
    key = _load_private_key(private_key)
    signature = key.sign(_signed(manifest))
    values = {"algorithm": ALGORITHM, "key": fingerprint(key.public_key()), "signature": signature.hex()}
    return (json.dumps(values, indent=1) + "\n").encode()


def check_signature(path: Path, manifest: bytes, signature: bytes | None, key: Ed25519PublicKey) -> str:
    """Return the fingerprint of the key that signed; raise ModelError when it is not this one, or nobody did."""
    from cryptography.exceptions import InvalidSignature

    if signature is None:
        raise ModelError(
            f"{path} is not signed, and a public key was given. Sign it with: cb package sign {path.name} --key "
            "NAME.key, or leave out --public-key."
        )
    try:
        values = json.loads(signature)
        key.verify(bytes.fromhex(values["signature"]), _signed(manifest))
    except (InvalidSignature, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{path} is refused: its signature is not by the key {fingerprint(key)[:16]} that was given, or not of "
            "this package. Get the package or the public key again from who signed it."
        ) from error
    return fingerprint(key)


def fingerprint(key: Ed25519PublicKey) -> str:
    """Return the SHA-256 of a public key's 32 bytes as 64 hexadecimal digits."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()


def load_public_key(path: str | Path) -> Ed25519PublicKey:
    """Read a PEM file. Raises UsageError when there is no ed25519 public key in it."""
    require("cryptography")
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    key: Ed25519PublicKey = _loaded(path, load_pem_public_key, Ed25519PublicKey, "public")
    return key


def _load_private_key(path: str | Path) -> Ed25519PrivateKey:
    require("cryptography")
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    key: Ed25519PrivateKey = _loaded(path, lambda pem: load_pem_private_key(pem, None), Ed25519PrivateKey, "private")
    return key


def _loaded(path: str | Path, load: Callable[[bytes], Any], kind: type[Any], name: str) -> Any:  # noqa: ANN401  (one of two kinds of key)
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        key = load(Path(path).read_bytes())
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:  # TypeError: it has a password
        raise UsageError(f"{path} cannot be read as a {name} key without a password ({error}). {_MAKE_KEYS}") from error
    if not isinstance(key, kind):
        raise UsageError(f"{path} holds a key of another kind, an {ALGORITHM} {name} key is needed. {_MAKE_KEYS}")
    return key


def _signed(manifest: bytes) -> bytes:
    return _PURPOSE + hashlib.sha256(manifest).hexdigest().encode()
