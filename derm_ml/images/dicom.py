"""DICOM photographs → pixels, and nothing else of the file: who the patient is, when and where, is never looked at.

    image = dicom_image(data, …)             a Pillow image, RGB or grey, 8 bits
    image = dicom_image(sent_pixels(data), …)   of a file that a stranger sent

Read are single images of the storage classes that hold photographs: visible light, dermoscopy, ophthalmic photography,
secondary capture (what scanners and converters write). Everything else in DICOM is no photograph. The library is
pydicom, an extra of this project: `pip install 'derm-platform[formats]'`.

A file that was sent by somebody is cut to what its pixels need before it is parsed as a whole: of 10 MB of empty
elements, or of items of a sequence, pydicom makes objects for 15 to 80 seconds.

Source: DICOM PS3.3 A.32 (VL photographic, ophthalmic), PS3.3 A.88 (dermoscopic photography), PS3.6 annex A (UIDs).
"""

from __future__ import annotations

import io
import warnings
from importlib.util import find_spec

import numpy as np
from PIL import Image

from derm_ml.images.containers import ImageError

MAGIC_AT = 128  # bytes before "DICM"
STORAGE = {
    "1.2.840.10008.5.1.4.1.1.77.1.4": "VL Photographic Image",
    "1.2.840.10008.5.1.4.1.1.77.1.7": "Dermoscopic Photography Image",
    "1.2.840.10008.5.1.4.1.1.77.1.5.1": "Ophthalmic Photography 8 Bit Image",
    "1.2.840.10008.5.1.4.1.1.77.1.5.2": "Ophthalmic Photography 16 Bit Image",
    "1.2.840.10008.5.1.4.1.1.7": "Secondary Capture Image",
    "1.2.840.10008.5.1.4.1.1.7.4": "Multi-frame True Color Secondary Capture Image",
}
_DEFLATED = b"1.2.840.10008.1.2.1.99"  # the whole file compressed: its size says nothing of what it unpacks to
_HEAD = 4_096  # bytes in which the transfer syntax stands
# what is read of a file that somebody sent: its pixels as they are, or as JPEG or JPEG 2000, which say their size first
_SENT = (
    "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.90",
    "1.2.840.10008.1.2.4.91",
)  # fmt: skip
_SENT_HEADER = 128 * 1024  # bytes before the pixels: parsed in a second at worst; a colour profile of a scanner fits
_FRAGMENTS = 64  # pieces of a packed image: writers make one, or one for each 64 kB of a few
_PIXELS, _ITEM, _END = b"\xe0\x7f\x10\x00", b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0" + bytes(4)
_OPEN_END = 0xFFFFFFFF  # the length of packed pixels: they end with `_END`
_GREY = ("MONOCHROME1", "MONOCHROME2")
_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "YBR_PARTIAL_420")


def is_readable() -> bool:
    """Whether the library that reads DICOM is installed here."""
    return find_spec("pydicom") is not None


def announced_pixels(data: bytes, most: int) -> int:
    """How many pixels the header of a DICOM file announces, `most` where it does not say; nothing is parsed."""
    head = data[:_SENT_HEADER]
    sizes = []
    for tag in (b"\x28\x00\x10\x00", b"\x28\x00\x11\x00"):  # rows, columns
        at, found = head.find(tag), []
        while at >= 0:
            after = head[at + 4 : at + 10]
            if after[:4] in (b"US\x02\x00", b"\x02\x00\x00\x00") and len(after) == 6:
                found.append(int.from_bytes(after[4:], "little"))
            at = head.find(tag, at + 4)
        sizes.append(max(found, default=0))
    return min(most, sizes[0] * sizes[1]) or most


def sent_pixels(data: bytes) -> bytes:
    """A DICOM file that somebody sent, up to the end of its pixels. Raises `ImageError` as `dicom_image` does, and
    where parsing or unpacking it could cost more than an image of its size does."""
    pydicom, broken = _library()
    head = io.BytesIO(data[:_SENT_HEADER])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = pydicom.dcmread(head, stop_before_pixels=True)
            syntax = str(found.file_meta.get("TransferSyntaxUID", ""))
        except broken as error:
            raise ImageError("the DICOM file is damaged: its header cannot be read") from error
    if syntax not in _SENT:
        raise ImageError("the DICOM file's pixels are packed in a way that is not accepted; convert it to PNG")
    at = head.tell()
    if data[at : at + 4] != _PIXELS:
        raise ImageError(f"the DICOM file has no pixels in, or just after, its first {_SENT_HEADER // 1024} kB")
    at += 8 if syntax == _SENT[0] else 12
    length = int.from_bytes(data[at - 4 : at], "little")
    if length != _OPEN_END:
        return data[: at + length]
    end = data.find(_END, at)
    if end < 0 or data.count(_ITEM, at, end) > _FRAGMENTS:
        raise ImageError("the DICOM file is damaged: its packed pixels do not end, or lie in too many pieces")
    return data[: end + len(_END)]


def _library():  # pydicom, and what it raises on broken input
    try:
        import pydicom
        from pydicom.errors import BytesLengthException, InvalidDicomError
    except ModuleNotFoundError:
        raise ImageError(
            "reading DICOM needs the package pydicom; run `pip install 'derm-platform[formats]'`, or convert it to PNG"
        ) from None
    return pydicom, (
        BytesLengthException, InvalidDicomError, OSError, ValueError, KeyError, TypeError, AttributeError, EOFError,
        IndexError, LookupError, RuntimeError, ArithmeticError, MemoryError,
    )  # fmt: skip


def dicom_image(data: bytes, max_pixels: int, max_side: int) -> Image.Image:
    """The one image of a DICOM file, upright as it is stored. `max_pixels` and `max_side` bound what is decoded.

    Raises `ImageError` for a file without the library that reads it, for another storage class, for several frames,
    and for one that is damaged.
    """
    pydicom, broken = _library()
    if _DEFLATED in data[:_HEAD]:
        raise ImageError("a deflated DICOM file is not read; convert it to Explicit VR Little Endian, or to PNG")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns with the values it finds: they are a patient's
        try:
            found = pydicom.dcmread(io.BytesIO(data))
            stored = str(found.file_meta.get("MediaStorageSOPClassUID", "") or found.get("SOPClassUID", ""))
            rows, columns = int(found.get("Rows", 0)), int(found.get("Columns", 0))
            frames = int(found.get("NumberOfFrames", 1) or 1)
        except broken as error:
            raise ImageError("the DICOM file is damaged: its header cannot be read") from error
        if stored not in STORAGE:
            raise ImageError("the DICOM file is no photograph (visible light, dermoscopy, ophthalmic); leave it out")
        if frames != 1:
            raise ImageError(f"the DICOM file holds {frames} images; send a single one")
        if rows < 1 or columns < 1:
            raise ImageError("the DICOM file is damaged: its header gives the image no size")
        if max(rows, columns) > max_side or rows * columns > max_pixels:
            raise ImageError(
                f"the image is {columns} × {rows} pixels; at most {max_pixels // 10**6} megapixels and {max_side} "
                "pixels a side are accepted"
            )
        try:
            if _packed_size(found) not in (None, (columns, rows)):
                raise ImageError("the DICOM file is damaged: its header and its pixels have different sizes")
            image = Image.fromarray(_eight_bits(found))
        except ImageError:
            raise
        except broken as error:
            raise ImageError("the DICOM file's pixels are damaged, or packed in a way that is not read") from error
    if image.size != (columns, rows):
        raise ImageError("the DICOM file is damaged: its header and its pixels have different sizes")
    image.format = "DICOM"
    return image


def _packed_size(found) -> tuple[int, int] | None:
    """(width, height) that a JPEG or JPEG 2000 inside says of itself, before it is unpacked; None of other pixels."""
    from pydicom.encaps import get_frame

    if not str(found.file_meta.get("TransferSyntaxUID", "")).startswith("1.2.840.10008.1.2.4."):
        return None
    try:
        return Image.open(
            io.BytesIO(get_frame(found.PixelData, 0, number_of_frames=1)), formats=("JPEG", "JPEG2000")
        ).size
    except Image.UnidentifiedImageError:  # JPEG-LS: the decoder says whether it can
        return None


def _eight_bits(found) -> np.ndarray:
    """Pixels (H, W) or (H, W, 3) uint8 of a pydicom dataset, white being high."""
    from pydicom.pixels.processing import apply_color_lut

    kind = str(found.get("PhotometricInterpretation", ""))
    pixels = found.pixel_array  # pydicom turns YBR into RGB
    if kind == "PALETTE COLOR":
        pixels, bits = apply_color_lut(pixels, found), 16
        bits = 8 if pixels.dtype == np.uint8 else bits
    elif kind in (*_GREY, *_COLOUR):
        bits = int(found.BitsStored)
    else:
        raise ImageError("the DICOM file's colours are coded in a way that is not read; convert it to PNG")
    if bits > 8:
        pixels = pixels.astype(np.uint32) >> (bits - 8)
    pixels = pixels.astype(np.uint8)
    return 255 - pixels if kind == "MONOCHROME1" else pixels
