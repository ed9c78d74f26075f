"""Signatures that say who made a plan: Ed25519 (RFC 8032) over its description, in a file of 64 bytes beside it.

Keys are PEM files as OpenSSL writes them, and OpenSSL can check the signatures as well. The description holds the
plan's SHA-256, so that signing it signs the plan.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType

from iqa_runtime.artefacts.files import signature_path
from iqa_runtime.errors import ArtefactError, DependencyError, FileError, UsageError


def sign(text: bytes, key: Path) -> bytes:
    """Sign the bytes of a description.

    Parameters
    ----------
    text
        What is signed.
    key
        Private key: PEM, Ed25519, not encrypted.

    Returns
    -------
    bytes
        The signature, 64 bytes.

    Raises
    ------
    UsageError
        If the file is no such key.
    FileError
        If it cannot be read.
    DependencyError
        If ``cryptography`` is not installed.
    """
    serialization, ed25519 = _library()
    content = _read_key(key)
    try:
        private = serialization.load_pem_private_key(content, password=None)
    except (TypeError, ValueError) as error:  # TypeError: it is encrypted
        raise _no_key(key, "a private key without a password", "genpkey -algorithm ed25519 -out key.pem") from error
    if not isinstance(private, ed25519.Ed25519PrivateKey):
        raise _no_key(key, "an Ed25519 key", "genpkey -algorithm ed25519 -out key.pem")
    return bytes(private.sign(text))


def check_signature(description: Path, text: bytes, key: Path) -> None:
    """Refuse a description that a key has not signed.

    Parameters
    ----------
    description
        Path of the description; its signature lies beside it.
    text
        The bytes that were read from it.
    key
        Public key: PEM, Ed25519.

    Raises
    ------
    ArtefactError
        If there is no signature, or it is not of this key over these bytes.
    UsageError
        If the file is no such key.
    FileError
        If the key or the signature cannot be read.
    DependencyError
        If ``cryptography`` is not installed.
    """
    serialization, ed25519 = _library()
    content = _read_key(key)
    try:
        public = serialization.load_pem_public_key(content)
    except ValueError as error:
        raise _no_key(key, "a public key", "pkey -in key.pem -pubout -out key.pub.pem") from error
    if not isinstance(public, ed25519.Ed25519PublicKey):
        raise _no_key(key, "an Ed25519 key", "pkey -in key.pem -pubout -out key.pub.pem")
    beside = signature_path(description)
    try:
        signature = beside.read_bytes()
    except FileNotFoundError as error:
        raise ArtefactError(
            f"{beside}: not there, so nothing says that {key} signed the plan; get the signature, or build the plan "
            "again: iqa-engine build --sign KEY.pem"
        ) from error
    except OSError as error:
        raise FileError(f"{beside}: cannot read the signature ({error.strerror}); check the file") from error
    try:
        public.verify(signature, text)
    except import_module("cryptography.exceptions").InvalidSignature as error:
        raise ArtefactError(
            f"{beside}: not the signature of {key} over {description.name}; don't run the plan unless you know why"
        ) from error


def _library() -> tuple[ModuleType, ModuleType]:
    primitives = "cryptography.hazmat.primitives"
    try:
        return import_module(f"{primitives}.serialization"), import_module(f"{primitives}.asymmetric.ed25519")
    except ImportError as error:
        raise DependencyError('signatures need the package cryptography; pip install "iqa-deploy[sign]"') from error


def _read_key(key: Path) -> bytes:
    try:
        return key.read_bytes()
    except OSError as error:
        raise FileError(f"{key}: cannot read the key ({error.strerror}); check the path") from error


def _no_key(key: Path, wanted: str, command: str) -> UsageError:
    return UsageError(f"{key}: not {wanted}; make one with: openssl {command}")
