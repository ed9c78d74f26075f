"""A pair of keys as OpenSSL would write it, for tests of signatures."""

from __future__ import annotations

from pathlib import Path

import pytest


def write_key_pair(folder: Path) -> tuple[Path, Path]:
    """Write a new private and its public Ed25519 key (PEM); the test is skipped where ``cryptography`` is missing."""
    ed25519 = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ed25519")
    serialization = pytest.importorskip("cryptography.hazmat.primitives.serialization")
    pem = serialization.Encoding.PEM
    private = ed25519.Ed25519PrivateKey.generate()
    secret = private.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    public = private.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    paths = folder / "key.pem", folder / "key.pub.pem"
    for path, content in zip(paths, (secret, public), strict=True):
        path.write_bytes(content)
    return paths
