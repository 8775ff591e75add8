"""Whatever bytes arrive, the answer is correct RGB pixels or one clear ImageError; a bomb never allocates."""

from __future__ import annotations

import contextlib
import io
import struct
import subprocess
import sys
import zipfile
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from derm_ml.images.containers import jpeg_segments
from derm_ml.images.decode import (
    INGEST_FORMATS,
    Formats,
    ImageError,
    canonical_mask,
    decode,
    decode_mask,
    format_of,
    read_image_file,
    stored_form,
    stored_mask,
)
from derm_ml.images.preprocess import limit_side

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # what Pillow says of broken tags

RED, GREEN, BLUE, GREY = (200, 30, 20), (20, 180, 40), (30, 40, 190), (120, 120, 120)


def picture(height: int = 24, width: int = 32) -> np.ndarray:
    """Four quarters of different colours: a wrong turn or channel order shows."""
    rgb = np.zeros((height, width, 3), np.uint8)
    rgb[: height // 2, : width // 2], rgb[: height // 2, width // 2 :] = RED, GREEN
    rgb[height // 2 :, : width // 2], rgb[height // 2 :, width // 2 :] = BLUE, GREY
    return rgb


def encode(image: Image.Image | np.ndarray, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, kind, **options)
    return buffer.getvalue()


def jpeg(image: Image.Image | np.ndarray, **options) -> bytes:
    return encode(image, "JPEG", quality=95, subsampling=0, **options)


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def bomb_png(width: int, height: int) -> bytes:
    """A PNG that says it is large and whose data would unpack to that; some kilobytes in size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    packer = zlib.compressobj(9)
    row = b"\0" * (3 * width + 1)
    data = b"".join(packer.compress(row) for _ in range(min(height, 200))) + packer.flush()
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", data) + png_chunk(b"IEND", b"")


# --- right pixels -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("TIFF", {}), ("BMP", {}), ("WEBP", {"lossless": True})])
def test_lossless_formats_give_the_pixels_back(kind, options):
    assert np.array_equal(decode(encode(picture(), kind, **options), INGEST_FORMATS), picture())


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(kind, orientation):
    """A phone held sideways must not be judged sideways."""
    stored = {
        1: lambda x: x,
        2: lambda x: x[:, ::-1],
        3: lambda x: x[::-1, ::-1],
        4: lambda x: x[::-1],
        5: lambda x: x.swapaxes(0, 1),
        6: lambda x: np.rot90(x),
        7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
        8: lambda x: np.rot90(x, -1),
    }[orientation](picture())
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 95, "subsampling": 0}}.get(kind, {})
    data = encode(np.ascontiguousarray(stored), kind, exif=exif, **options)
    assert np.abs(decode(data, INGEST_FORMATS).astype(int) - picture()).max() <= (12 if kind == "JPEG" else 0)


def test_unreadable_exif_does_not_cost_the_picture():
    data = jpeg(picture(), exif=b"Exif\0\0II*\0\xff\xff\xff\x7f")
    assert decode(data).shape == (24, 32, 3)


def test_greyscale_becomes_three_equal_channels():
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert np.array_equal(decode(encode(grey)), np.repeat(grey[..., None], 3, axis=2))


def test_sixteen_bit_grey_keeps_its_whole_range():
    """Read naively it clips to white."""
    grey = np.linspace(0, 65535, 64, dtype=np.uint16).reshape(8, 8)
    assert np.array_equal(decode(encode(grey))[..., 1], (grey >> 8).astype(np.uint8))


def test_sixteen_bit_rgb_png():
    values = np.arange(0, 48, dtype=np.uint16).reshape(4, 4, 3) * 1365
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", 4, 4, 16, 2, 0, 0, 0)
    parts = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    assert np.array_equal(decode(b"\x89PNG\r\n\x1a\n" + parts), (values >> 8).astype(np.uint8))


def test_one_bit():
    bits = np.array([[True, False], [False, True]])
    assert np.array_equal(decode(encode(Image.fromarray(bits)))[..., 0], np.where(bits, 255, 0))


def test_palette():
    image = Image.fromarray(picture()).convert("P", palette=Image.Palette.ADAPTIVE, colors=4)
    assert np.array_equal(decode(encode(image)), picture())


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_parts_become_white(mode):
    """Under a transparent pixel any colour may be stored; the network must see what a viewer shows."""
    rgba = np.dstack([picture(), np.full((24, 32), 255, np.uint8)])
    rgba[:12, :16, 3] = 0
    if mode == "P":
        image = Image.fromarray(picture()).convert("P", palette=Image.Palette.ADAPTIVE, colors=4)
        data = encode(image, transparency=image.getpixel((0, 0)))
    else:
        data = encode(Image.fromarray(rgba).convert(mode))
    seen = decode(data)
    assert (seen[:12, :16] == 255).all()
    expected = picture() if mode != "LA" else np.asarray(Image.fromarray(picture()).convert("L").convert("RGB"))
    assert np.array_equal(seen[12:], expected[12:])


def test_half_transparent_is_mixed_with_white():
    rgba = np.zeros((4, 4, 4), np.uint8)
    rgba[..., 3] = 128
    assert np.abs(decode(encode(rgba)).astype(int) - 127).max() <= 1


@pytest.mark.parametrize("keep_adobe_marker", [True, False])
def test_cmyk_jpeg_is_not_inverted(keep_adobe_marker):
    """Photoshop's CMYK decoded naively is a negative."""
    data = jpeg(Image.fromarray(picture()).convert("CMYK"))
    if not keep_adobe_marker:
        data = b"".join(data[a:b] for marker, a, b in jpeg_segments(data) if marker != 0xEE)
    assert np.abs(decode(data).astype(int) - picture()).max() <= 12


def test_progressive_jpeg_decodes_like_baseline():
    assert np.array_equal(decode(jpeg(picture(), progressive=True)), decode(jpeg(picture())))


def test_first_picture_of_a_phones_multi_picture_jpeg():
    """Portrait modes append a depth map as a second JPEG; it is no reason to refuse the photograph."""
    data = jpeg(picture()) + jpeg(np.zeros((8, 8, 3), np.uint8))
    assert np.array_equal(decode(data), decode(jpeg(picture())))


# --- refusals ---------------------------------------------------------------------------------------------------


def gif() -> bytes:
    return encode(Image.fromarray(picture()), "GIF")


def animated(kind: str) -> bytes:
    frames = [Image.fromarray(picture()), Image.fromarray(picture()[::-1].copy())]
    return encode(frames[0], kind, save_all=True, append_images=frames[1:])


def as_zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as pack:
        pack.writestr("run.sh", "echo")
    return buffer.getvalue()


def with_wrong_checksum() -> bytes:
    data = bytearray(encode(picture()))
    data[data.index(b"IDAT") + 8] ^= 0xFF
    return bytes(data)


REFUSED = {
    "nothing": (b"", "empty"),
    "text": (b"hello, I am no picture", "send a JPEG, PNG or DICOM"),
    "gif": (gif(), "send a JPEG, PNG or DICOM"),
    "animated png": (animated("PNG"), "2 images"),
    "truncated jpeg": (jpeg(picture())[:-40], "truncated"),
    "truncated png": (encode(picture())[:-20], "truncated"),
    "jpeg of three bytes": (b"\xff\xd8\xff", "truncated"),
    "damaged png": (with_wrong_checksum(), "checksum"),
    "zip behind a jpeg": (jpeg(picture()) + as_zip(), "ZIP"),
    "zip behind some padding": (encode(picture()) + b"\0" * 300 + as_zip(), "ZIP"),
    "pdf behind a png": (encode(picture()) + b"\n%PDF-1.7", "PDF"),
    "pdf in a comment": (jpeg(picture(), comment=b"%PDF-1.7"), "PDF"),
    "script behind a jpeg": (jpeg(picture()) + b"<?php system('id');", "script"),
    "too many pixels": (bomb_png(8000, 8000), "40 megapixels"),
    "too long a side": (bomb_png(16385, 1), "16384 pixels"),
    "enormous": (bomb_png(60000, 60000), "megapixels"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_one_clear_sentence(name):
    data, message = REFUSED[name]
    with pytest.raises(ImageError, match=message) as caught:
        decode(data)
    assert "\n" not in str(caught.value)
    assert "0x" not in str(caught.value)  # no address of a Python object in an answer


@pytest.mark.parametrize("kind", ["TIFF", "WEBP"])
def test_several_pages_are_refused_at_ingest(kind):
    with pytest.raises(ImageError, match="2 images"):
        decode(animated(kind), INGEST_FORMATS)


def test_upload_refuses_what_only_ingest_accepts():
    with pytest.raises(ImageError, match="a TIFF; send a JPEG, PNG or DICOM"):
        decode(encode(picture(), "TIFF"))


def test_floating_point_tiff_is_refused():
    with pytest.raises(ImageError, match="32 bits"):
        decode(encode(np.ones((4, 4), np.float32), "TIFF"), INGEST_FORMATS)


def test_size_is_checked_before_anything_is_read():
    with pytest.raises(ImageError, match="at most 0 MiB"):
        decode(encode(picture()), Formats(("PNG",), 20))


def test_ordinary_trailing_bytes_are_ignored():
    """Cameras append their own records; a real photograph must not be refused for them."""
    assert np.array_equal(decode(encode(picture()) + b"\x01\x02SEFT maker notes"), picture())


def test_a_jpeg_of_endless_scans_is_refused_before_it_is_decoded():
    """Each scan costs a pass over all pixels: 100 kB of them would keep a core busy for a minute."""
    data = encode(picture(), "JPEG", progressive=True)
    start = data.rindex(b"\xff\xda")
    scan = data[start:-2]
    assert decode(data[:-2] + 20 * scan + b"\xff\xd9").shape == picture().shape
    with pytest.raises(ImageError, match="more than 64 scans"):
        decode(data[:-2] + 100 * scan + b"\xff\xd9")


def test_a_bomb_does_not_allocate():
    """A picture of 3.6 gigapixels in some kilobytes must not take the server down (FAULTS: rise < 200 MB)."""
    code = (
        "import resource, sys\n"
        "from derm_ml.images.decode import INGEST_FORMATS, ImageError, decode\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "data = sys.stdin.buffer.read()\n"
        "try:\n    decode(data, INGEST_FORMATS)\n"
        "except ImageError: pass\n"
        "else: raise SystemExit('not refused')\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    exif = Image.Exif()
    exif[0x0112] = 6  # with EXIF the file gets a header of its own for the canvas size
    webp = bytearray(encode(picture(), "WEBP", lossless=True, exif=exif))
    assert webp[12:16] == b"VP8X"
    webp[24:30] = (16383 - 1).to_bytes(3, "little") * 2
    for data in (bomb_png(60000, 60000), bomb_png(16384, 16384), bytes(webp)):
        done = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, check=True)
        unit = 1024 if sys.platform != "darwin" else 1
        assert int(done.stdout) * unit < 200e6


@pytest.fixture(scope="module")
def seeds() -> list[bytes]:
    small = picture(10, 12)
    exif = Image.Exif()
    exif[0x0112] = 6
    return [
        jpeg(small, exif=exif),
        encode(small, exif=exif),
        encode(small, "TIFF", exif=exif),
        encode(small, "BMP"),
        encode(small, "WEBP", lossless=True),
        animated("PNG"),
    ]


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_broken_bytes_never_raise_anything_but_image_error(seeds, data):
    """An exception of another type is a 500 for the sender, or a dead ingest of ten thousand images."""
    original = bytearray(data.draw(st.sampled_from(seeds)))
    for _ in range(data.draw(st.integers(1, 6))):
        original[data.draw(st.integers(0, len(original) - 1))] = data.draw(st.integers(0, 255))
    broken = bytes(original[: data.draw(st.integers(1, len(original)))])
    for read in (lambda b: decode(b, INGEST_FORMATS), lambda b: stored_form(b, 8), decode_mask):
        with contextlib.suppress(ImageError):
            read(broken)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200), st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"II*\0", b"BM"]))
def test_random_bytes_never_raise_anything_but_image_error(body, magic):
    with contextlib.suppress(ImageError):
        decode(magic + body, INGEST_FORMATS)


# --- canonical --------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    mode=st.sampled_from(["RGB", "L", "RGBA", "CMYK", "P"]),
    kind=st.sampled_from(["JPEG", "PNG"]),
    orientation=st.integers(1, 8),
    side=st.integers(8, 48),
)
def test_canonical_keeps_the_pixels_exactly(seed, height, width, mode, kind, orientation, side):
    """The stored picture must be what training, evaluation and serving would have seen of the original."""
    rgb = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    if (kind == "JPEG" and mode in ("RGBA", "P")) or (kind == "PNG" and mode == "CMYK"):
        mode = "RGB"
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(Image.fromarray(rgb).convert(mode), kind, exif=exif)
    stored, size = stored_form(data, side)
    original = decode(data, INGEST_FORMATS)
    assert size == original.shape[:2]
    assert np.array_equal(decode(stored, INGEST_FORMATS), limit_side(original, side))
    assert stored_form(data, side) == (stored, size)
    assert stored_form(stored, side)[0] == stored  # storing again changes nothing


def test_a_plain_jpeg_keeps_its_scan_and_loses_everything_about_the_patient():
    """GPS, camera serial numbers and comments must not enter a dataset."""
    exif = Image.Exif()
    exif[0x010F] = "SECRET-MAKER"
    exif[0x8825] = {1: "N"}
    data = jpeg(picture(), exif=exif, comment=b"SECRET-NAME", icc_profile=b"SECRET-PROFILE" * 9, xmp=b"SECRET-XMP")
    stored, _ = stored_form(data + b"SECRET-TAIL", 64)
    assert format_of(stored) == "JPEG"
    assert b"SECRET" not in stored
    scan = [data[a:b] for marker, a, b in jpeg_segments(data) if marker == 0xDA]
    assert scan == [stored[a:b] for marker, a, b in jpeg_segments(stored) if marker == 0xDA]


def test_rgb_coded_jpeg_keeps_its_colours():
    """Its Adobe marker says that there is no YCbCr; dropped with the metadata, the picture would turn green."""
    data = encode(picture(), "JPEG", quality=95, subsampling=0, keep_rgb=True)
    stored, _ = stored_form(data, 64)
    assert np.abs(decode(stored).astype(int) - picture()).max() <= 12


# --- files ------------------------------------------------------------------------------------------------------


def test_a_wrong_extension_is_a_problem_at_ingest(tmp_path):
    path = tmp_path / "x.jpg"
    path.write_bytes(encode(picture()))
    with pytest.raises(ImageError, match=r"is a PNG but is named '\.jpg'"):
        read_image_file(path)
    path.rename(tmp_path / "x.PNG")
    assert read_image_file(tmp_path / "x.PNG") == encode(picture())


# --- masks ------------------------------------------------------------------------------------------------------

DISC = np.pad(np.full((4, 6), 255, np.uint8), 2)


def palette_mask(colours: list[int]) -> Image.Image:
    image = Image.fromarray((DISC > 0).astype(np.uint8), "L").convert("P")
    image.putdata((DISC > 0).astype(np.uint8).ravel().tolist())
    image.putpalette(colours)
    return image


MASKS = {
    "0 and 255": encode(DISC),
    "0 and 1": encode(DISC // 255),
    "one bit": encode(Image.fromarray(DISC > 0)),
    "16 bit": encode(DISC.astype(np.uint16) * 257),
    "three equal channels": encode(np.dstack([DISC] * 3)),
    "opaque alpha": encode(np.dstack([DISC, DISC, DISC, np.full_like(DISC, 255)])),
    "black and white palette": encode(palette_mask([0, 0, 0, 255, 255, 255])),
    "coloured palette, by index": encode(palette_mask([0, 0, 0, 128, 0, 0])),
    "bmp": encode(DISC, "BMP"),
}


@pytest.mark.parametrize("name", MASKS)
def test_every_honest_mask_is_read(name):
    assert np.array_equal(decode_mask(MASKS[name]), DISC)
    stored, mask = canonical_mask(MASKS[name])
    assert np.array_equal(mask, DISC)
    assert np.array_equal(stored_mask(stored), DISC)


@pytest.mark.parametrize("damaged", [b"", b"no picture", canonical_mask(MASKS["one bit"])[0][:40]])
def test_a_stored_mask_that_is_damaged_is_said_to_be(damaged):
    with pytest.raises(ImageError, match="damaged"):
        stored_mask(damaged)


@pytest.mark.parametrize("value", [0, 255])
def test_empty_and_full_masks(value):
    assert (decode_mask(encode(np.full((4, 4), value, np.uint8))) == value).all()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (encode(np.array([[0, 128, 255]], np.uint8)), "values 0, 128, 255"),
        (encode(np.arange(20, dtype=np.uint8)[None]), "values 0, 1, 2, 3, 4, 5, 6, 7 …"),
        (encode(picture()), "colours"),
        (encode(np.dstack([DISC, DISC, DISC, DISC])), "transparent"),
    ],
)
def test_a_doubtful_mask_is_refused(data, message):
    """A mask resized with smoothing has grey edges; guessing a threshold would shift every boundary."""
    with pytest.raises(ImageError, match=message):
        decode_mask(data)
