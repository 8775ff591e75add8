"""DICOM photographs → pixels, and nothing else of the file: who the patient is, when and where, is never looked at.

    image = dicom_image(data)      a Pillow image, RGB or grey, 8 bits

Read are single images of the storage classes that hold photographs: visible light, dermoscopy, ophthalmic photography,
secondary capture (what scanners and converters write). Everything else in DICOM is no photograph. The library is
pydicom, an extra of this project: `pip install 'derm-platform[formats]'`.

Source: DICOM PS3.3 A.32 (VL photographic, ophthalmic), PS3.3 A.88 (dermoscopic photography), PS3.6 annex A (UIDs).
"""

from __future__ import annotations

import io
import warnings

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
_GREY = ("MONOCHROME1", "MONOCHROME2")
_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "YBR_PARTIAL_420")


def dicom_image(data: bytes, max_pixels: int, max_side: int) -> Image.Image:
    """The one image of a DICOM file, upright as it is stored. `max_pixels` and `max_side` bound what is decoded.

    Raises `ImageError` for a file without the library that reads it, for another storage class, for several frames,
    and for one that is damaged.
    """
    try:
        import pydicom
        from pydicom.errors import BytesLengthException, InvalidDicomError
    except ModuleNotFoundError:
        raise ImageError(
            "reading DICOM needs the package pydicom; run `pip install 'derm-platform[formats]'`, or convert it to PNG"
        ) from None
    if _DEFLATED in data[:_HEAD]:
        raise ImageError("a deflated DICOM file is not read; convert it to Explicit VR Little Endian, or to PNG")
    broken = (
        BytesLengthException, InvalidDicomError, OSError, ValueError, KeyError, TypeError, AttributeError, EOFError,
        IndexError, LookupError,
        RuntimeError, ArithmeticError, MemoryError,
    )  # fmt: skip
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
            image = Image.fromarray(_eight_bits(found))
        except ImageError:
            raise
        except broken as error:
            raise ImageError("the DICOM file's pixels are damaged, or packed in a way that is not read") from error
    if image.size != (columns, rows):
        raise ImageError("the DICOM file is damaged: its header and its pixels have different sizes")
    image.format = "DICOM"
    return image


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
