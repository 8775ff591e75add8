"""A body of multipart/form-data (RFC 7578): how two photos, or several images, travel in one request."""

from __future__ import annotations

import uuid
from collections.abc import Mapping

FORM = "multipart/form-data"


def form_body(files: Mapping[str, bytes], fields: Mapping[str, str] | None = None) -> tuple[bytes, str]:
    """(body, content type) of a form with images and values by name."""
    mark = uuid.uuid4().hex
    parts = [
        b'Content-Disposition: form-data; name="%s"; filename="%s"\r\n\r\n%s' % (name.encode(), name.encode(), data)
        for name, data in files.items()
    ]
    for name, value in (fields or {}).items():
        parts.append(b'Content-Disposition: form-data; name="%s"\r\n\r\n%s' % (name.encode(), value.encode()))
    body = b"".join(b"--%s\r\n%s\r\n" % (mark.encode(), part) for part in parts) + b"--%s--\r\n" % mark.encode()
    return body, f"{FORM}; boundary={mark}"
