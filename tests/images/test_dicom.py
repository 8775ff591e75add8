"""DICOM and HEIC photographs: their pixels are read, and nothing that a header says of the patient goes further."""

from __future__ import annotations

import contextlib
import io
import sys

import numpy as np
import pytest
from PIL import Image

from derm_ml.data.prepare import prepare
from derm_ml.images.decode import INGEST_FORMATS, UPLOAD_FORMATS, ImageError, decode
from derm_ml.images.dicom import STORAGE, announced_pixels
from derm_ml.registry import get_task

pydicom = pytest.importorskip("pydicom")
pillow_heif = pytest.importorskip("pillow_heif")

SECRETS = (b"Nightingale", b"MRN-4711-X", b"19120512", b"St. Thomas", b"1.2.826.0.1.3680043.8.498.99")
VL, DERMOSCOPY, OPHTHALMIC_16 = (f"1.2.840.10008.5.1.4.1.1.77.1.{end}" for end in ("4", "7", "5.2"))


def dicom(pixels: np.ndarray, storage: str = VL, bits: int = 8, kind: str = "", **more) -> bytes:
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = storage, ExplicitVRLittleEndian
    meta.MediaStorageSOPInstanceUID = "1.2.826.0.1.3680043.8.498.99.1"
    found = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    found.SOPClassUID, found.SOPInstanceUID = storage, meta.MediaStorageSOPInstanceUID
    found.PatientName, found.PatientID, found.PatientBirthDate = "Nightingale^Florence", "MRN-4711-X", "19120512"
    found.InstitutionName, found.StudyInstanceUID = "St. Thomas", "1.2.826.0.1.3680043.8.498.99.2"
    colour = pixels.ndim == 3
    found.Rows, found.Columns, found.SamplesPerPixel = pixels.shape[0], pixels.shape[1], 3 if colour else 1
    found.PhotometricInterpretation = kind or ("RGB" if colour else "MONOCHROME2")
    if colour:
        found.PlanarConfiguration = 0
    found.BitsAllocated, found.BitsStored, found.HighBit = 8 * pixels.itemsize, bits, bits - 1
    found.PixelRepresentation = 0
    found.PixelData = pixels.tobytes()
    for name, value in more.items():
        setattr(found, name, value)
    out = io.BytesIO()
    found.save_as(out, enforce_file_format=True)
    return out.getvalue()


def colours(seed: int, side: int = 48) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.kron(rng.integers(0, 256, (8, 8, 3)), np.ones((side // 8, side // 8, 1))).astype(np.uint8)


@pytest.mark.parametrize("storage", STORAGE)
def test_photographs_are_read_to_the_pixel(storage):
    pixels = colours(1)
    assert (decode(dicom(pixels, storage), INGEST_FORMATS) == pixels).all()


def test_grey_inverted_and_deep_pixels_look_as_they_are_meant():
    grey = colours(2)[..., 0]
    three = np.repeat(grey[..., None], 3, axis=2)
    assert (decode(dicom(grey), INGEST_FORMATS) == three).all()
    assert (decode(dicom(grey, kind="MONOCHROME1"), INGEST_FORMATS) == 255 - three).all()
    deep = grey.astype(np.uint16) << 4  # 12 bits stored in 16
    assert (decode(dicom(deep, OPHTHALMIC_16, bits=12), INGEST_FORMATS) == three).all()


def test_a_jpeg_inside_is_read():
    pixels = colours(3)
    assert np.abs(decode(packed(pixels), INGEST_FORMATS).astype(int) - pixels).mean() < 4


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (dicom(colours(4), "1.2.840.10008.5.1.4.1.1.2"), "no photograph"),  # computed tomography
        (dicom(colours(4), NumberOfFrames=2), "holds 2 images"),
        (dicom(colours(4), Rows=60_000, Columns=60_000), "at most 40 megapixels"),
        (dicom(colours(4), PixelData=b"\0\0"), "pixels are damaged"),
        (dicom(colours(4))[:300], "damaged"),
        (bytes(128) + b"DICM" + bytes(range(256)), "damaged|no photograph"),
        (dicom(colours(4)).replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99"), "deflated"),
    ],
)
def test_what_is_no_single_photograph_is_one_sentence(data, message):
    with pytest.raises(ImageError, match=message):
        decode(data, INGEST_FORMATS)


def test_broken_bytes_are_one_sentence_too():
    """Whatever a damaged file makes the libraries raise, the run goes on to the next image."""
    rng = np.random.default_rng(0)
    for whole in (dicom(colours(8)), packed(colours(8)), heic(8)):
        for n in range(200):
            data = bytearray(whole)
            for place in rng.integers(132, 900, 3) % len(data):
                data[place] = rng.integers(256)
            with contextlib.suppress(ImageError):
                decode(bytes(data[: rng.integers(200, len(data))]), (INGEST_FORMATS, UPLOAD_FORMATS)[n % 2])


def test_an_upload_is_never_parsed_as_heic():
    with pytest.raises(ImageError, match="a HEIF; send a JPEG, PNG or DICOM"):
        decode(heic(5), UPLOAD_FORMATS)


def test_a_photograph_that_is_sent_is_read_as_one_on_disk_and_announces_its_size():
    for data in (dicom(colours(5)), packed(colours(5))):
        assert (decode(data, UPLOAD_FORMATS) == decode(data, INGEST_FORMATS)).all()
        assert announced_pixels(data, 40_000_000) == 48 * 48
        assert (decode(data + b"\x09\x00\x10\x10LO\0\0" * 9, UPLOAD_FORMATS) == decode(data, INGEST_FORMATS)).all()
    assert announced_pixels(dicom(colours(5)).replace(b"\x28\0\x10\0US", b"\x28\0\x12\0US"), 40_000_000) == 40_000_000


ELEMENT, SEQUENCE = b"\x09\0\x10\x10LO\0\0", b"\x09\0\x10\x10SQ\0\0" + b"\xff" * 4
ITEM, END = b"\xfe\xff\0\xe0" + bytes(4), b"\xfe\xff\xdd\xe0" + bytes(4)


@pytest.mark.parametrize(
    ("filling", "message"),
    [
        (ELEMENT * 50_000, "in, or just after, its first 128 kB"),
        (SEQUENCE + ITEM * 50_000 + END, "damaged|in, or just after, its first 128 kB"),
    ],
)
def test_a_header_that_would_be_parsed_for_a_minute_is_not(filling, message, monkeypatch):
    """10 MB of empty items took pydicom 83 s and 1 GB."""
    whole, read = dicom(colours(5)), []
    at = whole.index(b"\x28\0\x02\0US")
    parsed = pydicom.dcmread
    monkeypatch.setattr(
        pydicom, "dcmread", lambda file, **how: read.append(len(file.getvalue())) or parsed(file, **how)
    )
    with pytest.raises(ImageError, match=message):
        decode(whole[:at] + filling + whole[at:], UPLOAD_FORMATS)
    assert max(read) <= 128 * 1024


def test_a_small_header_around_a_huge_jpeg_allocates_nothing():
    """The size in the header is what the limits are held against; the JPEG inside must not be another."""
    with pytest.raises(ImageError, match="different sizes"):
        decode(packed(np.zeros((4000, 6000, 3), np.uint8), Rows=48, Columns=48), UPLOAD_FORMATS)


def test_pixels_that_are_packed_otherwise_or_in_crumbs_are_refused():
    data = packed(colours(5))
    with pytest.raises(ImageError, match="too many pieces"):
        decode(data.replace(END, ITEM * 100 + END), UPLOAD_FORMATS)
    with pytest.raises(ImageError, match="packed in a way that is not accepted"):
        decode(data.replace(b"1.2.840.10008.1.2.4.50", b"1.2.840.10008.1.2.5\0\0\0"), UPLOAD_FORMATS)  # run lengths


def packed(pixels: np.ndarray, **more) -> bytes:
    """A DICOM file with a JPEG inside."""
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEGBaseline8Bit

    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=95, subsampling=0)
    found = pydicom.dcmread(io.BytesIO(dicom(pixels, DERMOSCOPY, kind="YBR_FULL_422")))
    found.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    found.PixelData = encapsulate([out.getvalue()])
    for name, value in more.items():
        setattr(found, name, value)
    written = io.BytesIO()
    found.save_as(written, enforce_file_format=True)
    return written.getvalue()


def heic(seed: int) -> bytes:
    out = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(colours(seed))).save(out, quality=95)
    return out.getvalue()


def test_heic_is_read():
    assert np.abs(decode(heic(6), INGEST_FORMATS).astype(int) - colours(6)).mean() < 8


@pytest.mark.parametrize(("library", "data"), [("pydicom", dicom(colours(7))), ("pillow_heif", heic(7))])
def test_without_the_library_the_message_says_what_to_install(library, data, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ImageError, match=r"pip install 'derm-platform\[formats\]'"):
        decode(data, INGEST_FORMATS)


def test_no_patient_data_of_a_header_reach_the_dataset(tmp_path):
    """The prepared dataset is copied, pushed and kept; a name in it is a name given away."""
    raw = tmp_path / "raw"
    for k in range(12):
        folder = raw / ("benign", "malignant")[k % 2]
        folder.mkdir(parents=True, exist_ok=True)
        data = {0: dicom(colours(100 + k), DERMOSCOPY), 1: dicom(colours(100 + k)), 2: heic(100 + k)}[k % 3]
        (folder / f"{k}.{('dcm', 'dcm', 'heic')[k % 3]}").write_bytes(data)
    task = get_task("malignancy_screening")
    dataset = prepare(task, raw, task.settings(), tmp_path / "prepared")
    assert len(dataset.manifest) == 12
    stored = b"".join(path.read_bytes() for path in sorted(dataset.path.rglob("*")) if path.is_file())
    assert not [secret for secret in SECRETS if secret in stored]
    assert any(SECRETS[0] in path.read_bytes() for path in raw.rglob("*.dcm"))  # it was there to be found
