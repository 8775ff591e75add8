"""A multipart/form-data body, read in memory: the parts of one question, or several images.

    curl -F first=@visit1.jpg -F second=@visit2.jpg -F boxes=@boxes.json http://127.0.0.1:3000/match
    curl -F image=@one.jpg -F image=@two.jpg http://127.0.0.1:3000/predict

File names and content types that a client writes are not looked at; nothing is ever written to disk.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from derm_ml.asking.boxes import BOX_BYTES
from derm_ml.asking.kinds import BATCH, BATCH_BYTES, IMAGE, Part
from derm_ml.asking.options import AskingError


class _InMemory(MultiPartParser):
    """Photos of patients are never written to disk, not even for a moment."""

    spool_max_size = 2 * BATCH_BYTES  # more than any body may have


async def read_form(request: Request, parts: Sequence[Part], takes_batch: bool, most: int) -> list[tuple[str, bytes]]:
    """The parts of a request, in order, each with its name: those of one question once each, or 1 to 64 times `image`.

    A form of one question may have `most` bytes, one of several images `BATCH_BYTES`. Raises `AskingError` for a body
    that is not what it should be, and a 413.
    """
    names = [part.name for part in parts]
    accepted = " or ".join(
        words for words in (", ".join(names), f"up to {BATCH} parts named {IMAGE}" if takes_batch else "") if words
    )
    files = BATCH if takes_batch else len(parts)
    parser = _InMemory(request.headers, _body(request), max_files=files, max_fields=1, max_part_size=BOX_BYTES)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        if error.message.startswith("Too many files") and takes_batch:
            raise AskingError(f"the form has too many parts; send at most {BATCH} images at once") from error
        raise AskingError(f"the form cannot be read; send {accepted} as multipart/form-data") from error
    except (KeyError, ValueError) as error:
        raise AskingError(f"the form cannot be read; send {accepted} as multipart/form-data") from error
    found: list[tuple[str, bytes]] = []
    try:
        for name, value in form.multi_items():
            several = takes_batch and name == IMAGE and all(before == IMAGE for before, _ in found)
            once = name in names and name not in dict(found) and IMAGE not in dict(found)
            if not several and not once:
                raise AskingError(f"the form may hold {accepted}, and nothing else")
            data = await value.read() if isinstance(value, UploadFile) else value.encode("utf-8", "replace")
            found.append((name, data))
    finally:
        await form.close()
    if not found:
        raise AskingError(f"the form is empty; send {accepted}")
    sent = dict(found)
    if IMAGE not in sent and sum(len(data) for _, data in found) > most:
        raise HTTPException(413, f"the form has more than {most / 2**20:g} MiB; send smaller images")
    if IMAGE not in sent:
        for part in parts:
            if part.is_required and not sent.get(part.name):
                wanted = [p.name for p in parts if p.is_required]
                raise AskingError(f"the photo '{part.name}' is missing; send {' and '.join(wanted)}")
    return found


async def _body(request: Request) -> AsyncGenerator[bytes, None]:
    async for chunk in request.stream():
        yield chunk
