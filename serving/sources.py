"""The sources a Bento is built of, and a name of them: a fixed service is another Bento of the same model.

No BentoML here: the code location names the sources of a Bento without it.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import derm_ml
from derm_ml.files import sha256

PATTERNS = ("*.py", "policy.yaml", "page/*.*")  # code, the policies that say where a service decides, and the page


def sources() -> dict[str, Path]:
    """Path in the Bento → file here, in order."""
    found: dict[str, Path] = {}
    for package in (Path(derm_ml.__file__).parent, Path(__file__).parent):
        files = {path for pattern in PATTERNS for path in package.rglob(pattern)}
        found |= {path.relative_to(package.parent).as_posix(): path for path in files}
    return dict(sorted(found.items()))


def code() -> str:
    """A name of exactly these sources, 32 hexadecimal digits."""
    digest = hashlib.sha256()
    for name, path in sources().items():
        digest.update(f"{name}\0{sha256(path)}\0".encode())
    return digest.hexdigest()[:32]
