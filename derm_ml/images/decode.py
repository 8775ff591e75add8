"""Bytes from outside → RGB pixels, or one clear `ImageError`. The only place where a picture is decoded.

Before anything is decoded the size, the magic bytes and the header are checked, so that a decompression bomb
never allocates. Pillow is the only decoder: it reads CMYK, palette and 16-bit pictures correctly. The EXIF
orientation is applied; then all metadata are gone, for only pixels are returned.

Rulings:
* The magic bytes decide what a file is, not its name; `read_image_file` reports a name that says otherwise.
* Transparent parts become white, as a browser or a printer shows them.
* 16 bits become 8 by their upper byte, in grey as in colour. 32-bit and floating-point pictures have no agreed
  range and are refused.
* A colour profile (ICC) is dropped, not applied: training images carry none, and a profile is code-like input.
* CMYK in JPEG is read as inverted (Adobe's way, which every writer follows).
* Of a phone's multi-picture JPEG the first picture counts; animations and TIFFs of several pages are refused.
* DICOM and HEIF are read where their libraries are installed (`pip install 'derm-platform[formats]'`), HEIF not in
  uploads; without them the message says so. Of DICOM nothing but pixels is used.
* Bytes behind the picture are ignored unless they are another file (an archive, a PDF …): that is refused.

Example:
    >>> decode(Path("photo.jpg").read_bytes()).shape
    (144, 192, 3)
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from derm_ml.files import NotAFile, open_plain
from derm_ml.images import dicom
from derm_ml.images.containers import (
    JPEG_MAGIC,
    PNG_MAGIC,
    ImageError,
    jpeg_end,
    png_end,
    refuse_polyglot,
    strip_jpeg,
)
from derm_ml.images.preprocess import limit_side

__all__ = [
    "INGEST_FORMATS",
    "UPLOAD_FORMATS",
    "Formats",
    "ImageError",
    "canonical_mask",
    "decode",
    "decode_mask",
    "format_of",
    "orientation_and_size",
    "read_image_file",
    "stored_form",
    "stored_mask",
]


@dataclass(frozen=True, slots=True)
class Formats:
    """Which formats are accepted (Pillow's names), how large a file may be, and whether anybody may send it."""

    names: tuple[str, ...]
    max_bytes: int
    from_anybody: bool = False

    def __str__(self) -> str:
        return " or ".join(", ".join(self.names).rsplit(", ", 1))


UPLOAD_FORMATS = Formats(("JPEG", "PNG", *(("DICOM",) if dicom.is_readable() else ())), 10 * 2**20, from_anybody=True)
# data sets hold uncompressed TIFFs and BMPs: 20 megapixels × 3 bytes = 60 MB
INGEST_FORMATS = Formats(("JPEG", "PNG", "TIFF", "BMP", "WEBP", "DICOM", "HEIF"), 64 * 2**20)
MAX_PIXELS = 40_000_000
MAX_SIDE = 16_384

_EXTENSIONS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp", ".dib"),
    "WEBP": (".webp",),
    "DICOM": (".dcm", ".dicom", ".ima"),  # these two are read where their libraries are installed
    "HEIF": (".heic", ".heif", ".hif"),
}
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
IMAGE_EXTENSIONS = frozenset(extension for group in _EXTENSIONS.values() for extension in group)

# what Pillow's plugins raise on broken input (found by fuzzing; tests/images/test_decode.py goes on looking)
_DECODER_ERRORS = (
    OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, AttributeError, ArithmeticError,
    RuntimeError, MemoryError, struct.error, zlib.error, Image.DecompressionBombError, Image.DecompressionBombWarning,
)  # fmt: skip

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTATION_TAG = 0x0112


def decode(data: bytes, formats: Formats = UPLOAD_FORMATS) -> np.ndarray:
    """Decode one picture into RGB (H, W, 3) uint8, upright. Raises `ImageError`, never anything else."""
    with _opened(data, formats) as image:
        return _to_rgb(_loaded(image))


def stored_form(data: bytes, store_side: int) -> tuple[bytes, tuple[int, int]]:
    """What a dataset stores of a picture, and its original (height, width) after orientation.

    A plain upright RGB or grey JPEG that is small enough keeps its compressed scan and loses every metadata
    segment; anything else becomes a PNG. Either way `decode(stored)` equals `limit_side(decode(data), store_side)`
    exactly, and the same input gives the same bytes. Raises `ImageError` as `decode` does (ingest formats).
    """
    with _opened(data, INGEST_FORMATS) as image:
        upright = _loaded(image)
        plain = image.format in ("JPEG", "MPO") and image.mode in ("RGB", "L") and upright is image
        pixels = _to_rgb(upright)
    height, width = pixels.shape[:2]
    if plain and max(height, width) <= store_side:
        stored = strip_jpeg(data)
        if np.array_equal(decode(stored, INGEST_FORMATS), pixels):
            return stored, (height, width)
    buffer = io.BytesIO()
    Image.fromarray(limit_side(pixels, store_side)).save(buffer, "PNG")
    return buffer.getvalue(), (height, width)


def decode_mask(data: bytes, formats: Formats = INGEST_FORMATS) -> np.ndarray:
    """Decode a segmentation mask into (H, W) uint8 of 0 and 255, upright.

    Accepted: 0/255, 0/1, 1-bit, 16-bit 0/65535; three equal channels; an opaque alpha channel; a palette, by its
    colours if those are black and white, else by its indices 0 and 1. Raises `ImageError` for everything else and
    names the values found: a grey edge means that the mask was resized or stored as a lossy JPEG.
    """
    with _opened(data, formats) as image:
        upright = _loaded(image)
        if upright.mode == "P" and "transparency" not in upright.info:
            colours, indices = np.asarray(upright.convert("RGB")), np.asarray(upright)
            return _binary(indices if not _is_black_and_white(colours) else colours[..., 0])
        if upright.mode not in ("1", "L", "I", "RGB", "RGBA", "LA", "P") and not upright.mode.startswith("I;16"):
            raise ImageError(f"a mask cannot be read from an image of mode {upright.mode}; store it as 8-bit grey PNG")
        values = np.asarray(upright.convert("RGBA") if upright.mode == "P" else upright)
    if upright.mode in ("LA", "RGBA", "P"):
        if (values[..., -1] != 255).any():
            raise ImageError("the mask has transparent parts; store it as 8-bit grey PNG with 0 and 255")
        values = values[..., :-1]
    if values.ndim == 3:
        if (values != values[..., :1]).any():
            raise ImageError("the mask has colours; store it as 8-bit grey PNG with 0 and 255")
        values = values[..., 0]
    return _binary(values)


def orientation_and_size(data: bytes, formats: Formats = INGEST_FORMATS) -> tuple[int, tuple[int, int]]:
    """The EXIF orientation (1..8; 1 where none is said) and the stored (width, height), without decoding pixels.

    Raises `ImageError` as `decode` does.
    """
    with _opened(data, formats) as image:
        return _orientation(image), image.size


def canonical_mask(data: bytes, turn: int = 1) -> tuple[bytes, np.ndarray]:
    """What a dataset stores of a mask, and its pixels (H, W) uint8 of 0 and 255; `turn`: turned as that EXIF
    orientation says, because its image is.

    A 1-bit PNG at the mask's own size: masks are scored at original resolution, and one of 6 megapixels takes 20 kB.
    Raises `ImageError` as `decode_mask` does.
    """
    mask = decode_mask(data)
    if turn in _TURNS:
        mask = np.asarray(Image.fromarray(mask).transpose(_TURNS[turn]))
    buffer = io.BytesIO()
    Image.fromarray(mask).convert("1", dither=Image.Dither.NONE).save(buffer, "PNG")
    return buffer.getvalue(), mask


def stored_mask(data: bytes) -> np.ndarray:
    """The pixels (H, W) of what `canonical_mask` stored, eight times faster than the questions of `decode_mask`.

    Raises `ImageError` for bytes that are no picture.
    """
    mask = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE) if data else None
    if mask is None:
        raise ImageError("the stored mask cannot be decoded: the dataset is damaged")
    return mask


def format_of(data: bytes) -> str:
    """Pillow's name of the format that the magic bytes say, or "" for none that is known here."""
    if data.startswith(JPEG_MAGIC):
        return "JPEG"
    if data.startswith(PNG_MAGIC):
        return "PNG"
    if data[:4] in (b"II*\0", b"MM\0*"):
        return "TIFF"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[dicom.MAGIC_AT : dicom.MAGIC_AT + 4] == b"DICM":
        return "DICOM"
    if data[4:8] == b"ftyp" and data[8:12] in _HEIF_BRANDS:
        return "HEIF"
    return "BMP" if data.startswith(b"BM") else ""


def read_image_file(path: Path, formats: Formats = INGEST_FORMATS) -> bytes:
    """The bytes of an image file, its size checked before they are read.

    Raises `ImageError` if it is no regular file (a pipe is not waited for), cannot be read, is too large, or if its
    name claims another format than its magic bytes; `FileNotFoundError` if it is not there.
    """
    try:
        with open_plain(path) as file:
            _check_size(os.fstat(file.fileno()).st_size, formats)
            data = file.read(formats.max_bytes + 1)  # a file may grow while it is read
    except FileNotFoundError:
        raise
    except NotAFile as error:
        raise ImageError(str(error)) from error
    except OSError as error:
        raise ImageError(f"the file cannot be read ({error.strerror}); allow it, or copy it again") from error
    _check_size(len(data), formats)
    found = format_of(data)
    if found and path.suffix.lower() not in _EXTENSIONS[found]:
        raise ImageError(f"the file is a {found} but is named '{path.suffix}'; rename it to '{_EXTENSIONS[found][0]}'")
    return data


def _check_size(size: int, formats: Formats) -> None:
    if size == 0:
        raise ImageError("the file is empty")
    if size > formats.max_bytes:
        raise ImageError(f"the file has {size / 2**20:.1f} MiB; at most {formats.max_bytes // 2**20} MiB are accepted")


def _opened(data: bytes, formats: Formats) -> Image.Image:
    """Check size, magic, container and header; return the picture not yet decoded."""
    _check_size(len(data), formats)
    name = format_of(data)
    if name not in formats.names:
        raise ImageError(f"the file is {'a ' + name if name else 'not a known image format'}; send a {formats} file")
    end = len(data)
    if name == "JPEG":
        end = jpeg_end(data)
    elif name == "PNG":
        end = png_end(data)
    elif name == "WEBP":
        end = min(end, 8 + int.from_bytes(data[4:8], "little"))
    refuse_polyglot(data, end)
    if name == "DICOM":
        sent = dicom.sent_pixels(data) if formats.from_anybody else data
        return dicom.dicom_image(sent, MAX_PIXELS, MAX_SIDE)
    if name == "HEIF":
        _register_heif()
    try:
        image = Image.open(io.BytesIO(data), formats=(name,))
        width, height = image.size
        # of a phone's JPEG or HEIF the first picture counts: more are depth maps, bursts and thumbnails
        frames = 1 if name in ("JPEG", "HEIF") else getattr(image, "n_frames", 1)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"the image has more than {MAX_PIXELS // 10**6} megapixels") from error
    except _DECODER_ERRORS as error:
        raise ImageError(f"the {name} file is damaged: its header cannot be read") from error
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        raise ImageError(
            f"the image is {width} × {height} pixels; at most {MAX_PIXELS // 10**6} megapixels "
            f"and {MAX_SIDE} pixels a side are accepted"
        )
    if width < 1 or height < 1:
        raise ImageError(f"the {name} file is damaged: it says {width} × {height} pixels")
    if frames != 1:
        raise ImageError(f"the {name} file holds {frames} images; send a single one")
    return image


def _register_heif() -> None:
    """Let Pillow read HEIF through libheif. Raises `ImageError` where the library is not installed."""
    try:
        import pillow_heif
    except ModuleNotFoundError:
        raise ImageError(
            "reading HEIC needs the package pillow-heif; run `pip install 'derm-platform[formats]'`, or convert it to "
            "JPEG"
        ) from None
    pillow_heif.register_heif_opener(thumbnails=False)


def _loaded(image: Image.Image) -> Image.Image:
    """Decode the pixels and turn them upright. Returns `image` itself where there is nothing to turn."""
    try:
        image.load()
    except _DECODER_ERRORS as error:
        raise ImageError(f"the {image.format} file is damaged or truncated") from error
    orientation = _orientation(image)
    return image.transpose(_TURNS[orientation]) if orientation in _TURNS else image


def _orientation(image: Image.Image) -> int:
    try:
        orientation = image.getexif().get(_ORIENTATION_TAG, 1)
    except _DECODER_ERRORS:  # unreadable EXIF says nothing: the pixels are good
        return 1
    return orientation if orientation in _TURNS else 1


def _to_rgb(image: Image.Image) -> np.ndarray:
    """Pixels of any mode that Pillow decodes → (H, W, 3) uint8."""
    if image.mode.startswith("I;16"):
        grey = (np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode in ("I", "F"):
        raise ImageError("the image has 32 bits per pixel, whose range is not agreed; store it with 8 bits")
    try:
        if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
            coloured = image.convert("RGBA")
            image = Image.new("RGBA", image.size, "white")
            image.alpha_composite(coloured)
        return np.array(image if image.mode == "RGB" else image.convert("RGB"))  # converting would copy 4 bytes a pixel
    except _DECODER_ERRORS as error:
        raise ImageError(f"images with colours coded as {image.mode} are not accepted; store it as RGB") from error


def _is_black_and_white(colours: np.ndarray) -> bool:
    return bool((colours == colours[..., :1]).all() and np.isin(colours[..., 0], (0, 255)).all())


def _binary(values: np.ndarray) -> np.ndarray:
    """0 and one of 1, 255, 65535 → 0 and 255 uint8."""
    found = np.unique(values)
    for full in (1, 255, 65_535):
        if np.isin(found, (0, full)).all():
            return np.where(values == full, np.uint8(255), np.uint8(0))
    shown = ", ".join(str(value) for value in found[:8]) + (" …" if len(found) > 8 else "")
    raise ImageError(f"the mask has the values {shown}; a mask holds 0 and 255 only, in a lossless format")
