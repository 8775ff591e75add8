"""Signed bundles: what a shared registry hands out is opened only if somebody we trust made it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from derm_ml.bundles.bundle import CARD, SIGNATURE, Bundle, BundleError, seal
from derm_ml.bundles.signing import SIGNING_KEY, TRUSTED_KEYS, SigningError, sign


def write_key(folder: Path, name: str, key=None) -> tuple[Path, Path]:
    key = key or Ed25519PrivateKey.generate()
    private, public = folder / f"{name}.pem", folder / f"{name}.pub.pem"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return private, public


@pytest.fixture
def bundle(trained, tmp_path) -> Path:
    return Path(shutil.copytree(trained / "bundle", tmp_path / "bundle"))


def test_without_trusted_keys_nothing_is_asked(bundle):
    assert Bundle.open_trusted(bundle).version


def test_a_bundle_is_signed_when_it_is_sealed_and_opened_by_who_trusts_the_key(bundle, tmp_path, monkeypatch):
    private, public = write_key(tmp_path, "ours")
    _, other = write_key(tmp_path, "theirs")
    monkeypatch.setenv(SIGNING_KEY, str(private))
    seal(bundle, Bundle.open(bundle).card)
    (tmp_path / "trusted.pem").write_bytes(other.read_bytes() + public.read_bytes())
    monkeypatch.setenv(TRUSTED_KEYS, str(tmp_path / "trusted.pem"))
    assert Bundle.open_trusted(bundle).card == Bundle.open(bundle).card


@pytest.mark.parametrize("forgery", ["unsigned", "another key", "changed card", "no signature at all"])
def test_what_nobody_we_trust_has_signed_is_not_opened(bundle, tmp_path, monkeypatch, forgery):
    """Whoever can write to the registry could otherwise make their bundle the champion: its own sha256 fit."""
    private, public = write_key(tmp_path, "ours")
    stranger, _ = write_key(tmp_path, "theirs")
    monkeypatch.setenv(TRUSTED_KEYS, str(public))
    if forgery != "unsigned":
        monkeypatch.setenv(SIGNING_KEY, str(stranger if forgery == "another key" else private))
        sign(bundle / CARD, bundle / SIGNATURE)
    if forgery == "changed card":
        text = (bundle / CARD).read_text()
        (bundle / CARD).write_text(text.replace('"epochs": ', '"epochs": 1'))
    if forgery == "no signature at all":
        (bundle / SIGNATURE).write_text("bm90aGluZw==")
    expected = "is not signed" if forgery == "unsigned" else "is not a signature of bundle.json by any of the 1 keys"
    with pytest.raises(BundleError, match=expected):
        Bundle.open_trusted(bundle)


def test_a_key_that_is_none_is_named(bundle, tmp_path, monkeypatch):
    rsa, public = write_key(tmp_path, "rsa", generate_private_key(65537, 2048))
    for name, message in (
        (str(rsa), "not an Ed25519 key"),
        ("/no/such", "not a readable private key"),
        ("", "set DERM"),
    ):
        monkeypatch.setenv(SIGNING_KEY, name)
        with pytest.raises(SigningError, match=message):
            sign(bundle / CARD, bundle / SIGNATURE)
    for name, message in ((str(public), "expected Ed25519 public keys"), ("/no/such", "no readable public keys")):
        monkeypatch.setenv(TRUSTED_KEYS, name)
        with pytest.raises(BundleError, match=message):
            Bundle.open_trusted(bundle)
