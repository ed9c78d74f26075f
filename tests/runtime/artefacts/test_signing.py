"""Signatures of engines: whose are trusted."""

import subprocess
import sys
from hashlib import sha256

import pytest

from described_plans import CONTENT, rewrite
from iqa_runtime.artefacts.engine_file import load_engine
from iqa_runtime.artefacts.files import description_path
from iqa_runtime.artefacts.signing import check_signature, sign, signature_path
from iqa_runtime.errors import ArtefactError, DependencyError, FileError, UsageError


@pytest.fixture
def keys(tmp_path):
    """Private and public key, another public one, and public key of another kind."""
    pytest.importorskip("cryptography")
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed448, ed25519

    paths = {}
    kinds = {"own": ed25519.Ed25519PrivateKey, "other": ed25519.Ed25519PrivateKey, "long": ed448.Ed448PrivateKey}
    for name, kind in kinds.items():
        private = kind.generate()
        pem = serialization.Encoding.PEM
        secret = private.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        public = private.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
        for suffix, content in (("pem", secret), ("pub.pem", public)):
            paths[f"{name}.{suffix}"] = tmp_path / f"{name}.{suffix}"
            paths[f"{name}.{suffix}"].write_bytes(content)
    return paths


@pytest.fixture
def signed(plan, keys):
    signature_path(description_path(plan)).write_bytes(sign(description_path(plan).read_bytes(), keys["own.pem"]))
    return plan


def test_a_signed_plan_is_loaded_by_who_trusts_the_key(signed, keys):
    assert load_engine(signed, trust=keys["own.pub.pem"])[1] == CONTENT


def test_openssl_finds_the_signature_right(signed, keys):
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", keys["own.pub.pem"], "-rawin"]
    command += ["-in", description_path(signed), "-sigfile", signature_path(description_path(signed))]
    try:
        finished = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    except FileNotFoundError:
        pytest.skip("no openssl here")
    assert "Signature Verified Successfully" in finished.stdout


def test_what_another_key_signed_is_refused(signed, keys):
    with pytest.raises(ArtefactError, match="not the signature of"):
        load_engine(signed, trust=keys["other.pub.pem"])


def test_a_description_changed_after_signing_is_refused(signed, keys):
    signed.write_bytes(b"another engine")
    rewrite(signed, {"plan": {"file": "x.plan", "sha256": sha256(b"another engine").hexdigest()}})
    assert load_engine(signed)[1] == b"another engine"  # the digest proves integrity, not origin
    with pytest.raises(ArtefactError, match="not the signature of"):
        load_engine(signed, trust=keys["own.pub.pem"])


def test_an_unsigned_plan_is_not_trusted(plan, keys):
    with pytest.raises(ArtefactError, match="nothing says that"):
        load_engine(plan, trust=keys["own.pub.pem"])


@pytest.mark.parametrize("name", ["own.pem", "long.pub.pem"])
def test_a_key_of_another_kind_cannot_be_trusted(signed, keys, name):
    with pytest.raises(UsageError, match="make one with: openssl pkey"):
        load_engine(signed, trust=keys[name])


@pytest.mark.parametrize("name", ["own.pub.pem", "long.pem"])
def test_a_key_of_another_kind_cannot_sign(keys, name):
    with pytest.raises(UsageError, match="make one with: openssl genpkey"):
        sign(b"text", keys[name])


@pytest.mark.usefixtures("keys")
def test_a_missing_key_is_a_file_error(plan, tmp_path):
    with pytest.raises(FileError, match="cannot read the key"):
        sign(b"text", tmp_path / "none.pem")
    with pytest.raises(FileError, match="cannot read the key"):
        load_engine(plan, trust=tmp_path / "none.pem")


def test_without_the_library_the_error_names_it(monkeypatch, plan, tmp_path):
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives", None)
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.serialization", None)
    with pytest.raises(DependencyError, match=r"pip install .iqa-deploy\[sign\]"):
        check_signature(description_path(plan), b"", tmp_path / "key.pem")
