"""What strangers may put into a form: always a sentence, never a stack trace."""

from __future__ import annotations

import anyio
import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request

from derm_ml.asking.form import FORM
from derm_ml.asking.kinds import BATCH
from derm_ml.asking.options import AskingError
from derm_ml.registry import get_task
from serving.form import read_form

PARTS = get_task("persistent_conditions").asking.parts
EYES = get_task("retinal_findings").asking.parts


def form_of(*parts: tuple[str, bytes]) -> bytes:
    """A form with parts of any names, any number of times."""
    lines = [
        b'--x\r\nContent-Disposition: form-data; name="%s"; filename="f"\r\n\r\n%s\r\n' % (name.encode(), data)
        for name, data in parts
    ]
    return b"".join(lines) + b"--x--\r\n"


async def form(body: bytes, kind: str = f"{FORM}; boundary=x", parts=PARTS, takes_batch=False, most=10**6):
    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    scope = {"type": "http", "method": "POST", "headers": [(b"content-type", kind.encode())]}
    return await read_form(Request(scope, receive), parts, takes_batch, most)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", "multipart/form-data; boundary=x"),
        (b"no form at all", "multipart/form-data; boundary=x"),
        (b"--x\r\n", "multipart/form-data"),
        (
            b'--x\r\nContent-Disposition: form-data; name="boxes"\r\n\r\n\\ud800\r\n--x--\r\n',
            "multipart/form-data; boundary=x; charset=unicode_escape",
        ),
    ],
)
def test_a_form_that_is_none_gets_a_sentence(body, kind):
    with pytest.raises(AskingError):
        anyio.run(form, body, kind)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([], "empty"),
        (["first"], "'second' is missing"),
        (["first", "first"], "nothing else"),
        (["first", "image"], "nothing else"),
        (["image", "first"], "nothing else"),
        (["other"], "nothing else"),
        (["image"] * (BATCH + 1), "at most 64"),
    ],
)
def test_a_form_is_one_question_or_several_images_and_nothing_else(names, said):
    """A photo of the wrong part must not be answered as if it were another eye's."""
    body = form_of(*((name, b"x") for name in names))
    with pytest.raises(AskingError, match=said):
        anyio.run(form, body, f"{FORM}; boundary=x", EYES, True)


def test_images_keep_their_order():
    sent = [("image", b"%d" % n) for n in range(BATCH)]
    assert anyio.run(form, form_of(*sent), f"{FORM}; boundary=x", (), True) == sent


def test_one_question_may_not_be_as_large_as_a_batch():
    both = form_of(("first", bytes(2000)), ("second", bytes(2000)))
    with pytest.raises(HTTPException) as refused:
        anyio.run(form, both, f"{FORM}; boundary=x", EYES, True, 3000)
    assert refused.value.status_code == 413
