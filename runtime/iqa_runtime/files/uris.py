"""Addresses of files on other hosts: how they are told from paths, and what may be shown of them."""

from __future__ import annotations

import hashlib
import re

SCHEMES = ("https", "http", "s3", "gs", "az")
"""What is fetched."""

_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_PARTS = re.compile(r"([^/?#]*)([^?#]*)(?:\?([^#]*))?(?:#.*)?", re.DOTALL)

_SIGNING = re.compile(
    # Signatures of Amazon, Google and CloudFront, old and new, and what stands beside them.
    r"x-amz-.*|x-goog-.*|signature|expires|policy|key-pair-id|awsaccesskeyid|googleaccessid"
    # What is a secret by its name.
    r"|.*(?:token|secret|passw|credential|signature|api_?key|access_?key).*"
    r"|(?:.*[^a-z])?(?:key|auth|authorization|sig|sign|ak|pwd|pass|pw|jwt|session|sid|hmac|hdnts|hdnea|code)(?:[^a-z].*)?"
)
_SIGNED_BY_AZURE = {
    *("sv", "ss", "srt", "sp", "se", "st", "spr", "sip", "sr"),
    *("skoid", "sktid", "skt", "ske", "sks", "skv"),
}
"""Beside ``sig`` alone: elsewhere these short names may be anything."""

_LONGEST_SHOWN = 24
"""Characters of a value in a query; secrets are mostly longer, sizes and numbers of pictures shorter."""

_DIGITS = 12


def scheme_of(text: str) -> str | None:
    """Return the scheme of an address, in small letters; None for a path."""
    found = _URI.match(text)
    return None if found is None else found[1].lower()


def public_name(text: str) -> str:
    """Return what rows and messages call an image: an address without what gives access, anything else as it is.

    Left out are user and password before the host, the fragment, and of the query what is a signature or a secret by
    its name; so an address that was signed anew keeps its name. Other values of more than `_LONGEST_SHOWN` characters
    become a part of their SHA-256, which tells them apart. In ``s3``, ``gs`` and ``az`` all behind the bucket is a name
    of an object, and stays.

    Parameters
    ----------
    text
        A path, or an address of any scheme.
    """
    scheme = scheme_of(text)
    if scheme is None:
        return text
    start = text.index("://") + 3
    parts = _PARTS.fullmatch(text, start)
    if parts is None:  # every text behind a scheme has these parts
        return text
    user, _, host = parts[1].rpartition("@")
    if scheme not in ("http", "https"):
        return text[:start] + (host if ":" in user else parts[1]) + text[parts.end(1) :]
    pieces = [] if parts[3] is None else parts[3].split("&")
    names = {piece.partition("=")[0].lower() for piece in pieces}
    left_out = _SIGNED_BY_AZURE if "sig" in names else set()
    shown = [
        _shown(piece)
        for piece in pieces
        if (name := piece.partition("=")[0].lower()) not in left_out and not _SIGNING.fullmatch(name)
    ]
    return text[:start] + host + parts[2] + ("?" + "&".join(shown) if shown else "")


def _shown(piece: str) -> str:
    name, equals, value = piece.partition("=")
    return f"{_shortened(name)}{equals}{_shortened(value)}"


def _shortened(text: str) -> str:
    if len(text) <= _LONGEST_SHOWN:
        return text
    return f"sha256:{hashlib.sha256(text.encode('utf-8', 'backslashreplace')).hexdigest()[:_DIGITS]}"
