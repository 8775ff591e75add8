"""What a file is, told from its name, and from its first bytes where the name says nothing.

    what_is(Path("IMG_1.JP2"))         Kind("other_image", "JPEG 2000")  an image, of a format that is not read
    what_is(Path("IMG_1.AAE"))         Kind("no_image", "a sidecar file")

Only what is an image can be lost: a sidecar, an archive or a list beside images is named once and stops nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from derm_ml.files import NotAFile, open_plain
from derm_ml.images.decode import IMAGE_EXTENSIONS, format_of

# image formats that people have and that are not read → their endings
_OTHER_IMAGES = {
    "HEIC sequence": (".heics",),
    "AVIF": (".avif",),
    "JPEG 2000": (".jp2", ".j2k", ".j2c", ".jpx", ".jpf", ".jpc"),
    "JPEG XL": (".jxl",),
    "camera raw": (
        ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".srf", ".sr2", ".dng", ".raf", ".orf", ".rw2", ".pef", ".srw",
        ".raw", ".rwl", ".x3f", ".3fr", ".iiq", ".kdc", ".dcr", ".mrw", ".erf", ".mef", ".mos",
    ),
    "GIF": (".gif",),
    "Photoshop": (".psd", ".psb"),
    "whole-slide image": (".svs", ".ndpi", ".mrxs", ".scn", ".vms", ".bif"),
    "NIfTI": (".nii",),
    "MetaImage": (".mha", ".mhd"),
    "portable pixmap": (".ppm", ".pgm", ".pbm", ".pnm"),
    "Targa": (".tga",),
    "OpenEXR": (".exr",),
    "vector drawing": (".svg", ".eps", ".ai"),
}  # fmt: skip
_NO_IMAGES = {
    "a list that was not read": (
        ".csv", ".tsv", ".tab", ".json", ".jsonl", ".geojson", ".xml", ".xlsx", ".xlsm", ".xls", ".ods", ".parquet",
    ),
    "a text": (
        ".txt", ".md", ".html", ".htm", ".pdf", ".yaml", ".yml", ".doc", ".docx", ".odt", ".rtf", ".bib", ".log",
        ".toml", ".rst", ".names", ".data", ".ppt", ".pptx",
    ),
    "a sidecar file": (".aae", ".xmp", ".thm", ".pp3", ".dop", ".on1", ".cos", ".cocatalog"),
    "an archive": (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar", ".iso", ".md5", ".sha256"),
    "code": (".ipynb", ".py", ".m", ".r", ".sh", ".js", ".bat", ".cpp", ".java"),
    "a model or array file": (
        ".h5", ".hdf5", ".pt", ".pth", ".onnx", ".pkl", ".npy", ".npz", ".mat", ".pb", ".keras", ".ckpt", ".joblib",
        ".safetensors", ".tfrecord", ".tfrecords", ".lmdb", ".cache",
    ),
    "a video or sound": (".mov", ".mp4", ".m4v", ".avi", ".mkv", ".wmv", ".webm", ".3gp", ".mpg", ".wav", ".mp3"),
    "a system file": (".db", ".ini", ".lnk", ".url", ".dvc", ".lock", ".tmp", ".part", ".crdownload", ".bak"),
}  # fmt: skip
_BY_ENDING = {end: ("other_image", name) for name, ends in _OTHER_IMAGES.items() for end in ends} | {
    end: ("no_image", name) for name, ends in _NO_IMAGES.items() for end in ends
}
_HEAD = 132  # bytes: DICOM's mark stands at 128


@dataclass(frozen=True, slots=True)
class Kind:
    """`image`: of a format that is read, `what` being "" or what its bytes say; `other_image`: of the format `what`,
    which is not read; `no_image`: a list, a sidecar file, …"""

    is_a: Literal["image", "other_image", "no_image"]
    what: str = ""

    @property
    def reason(self) -> str:
        """Why a file of this kind among images is not read, and what to do."""
        if self.is_a == "image":
            return f"is a {self.what} file without its ending; rename it to end in .{self.what.lower()}"
        return f"{self.what} is no accepted image format; convert it to PNG or JPEG"


def what_is(path: Path) -> Kind:
    """The kind of a file. One whose ending is not known is opened for its first bytes; none is decoded."""
    ending = path.suffix.lower()
    if ending in IMAGE_EXTENSIONS:
        return Kind("image")
    if path.name.lower().endswith(".nii.gz"):
        return Kind("other_image", "NIfTI")
    if ending in _BY_ENDING:
        return Kind(*_BY_ENDING[ending])  # type: ignore[arg-type]
    return _by_bytes(path)


def _by_bytes(path: Path) -> Kind:
    try:
        with open_plain(path) as file:
            head = file.read(_HEAD)
    except (NotAFile, OSError):
        return Kind("no_image", "a file that cannot be opened")
    if head[4:12] == b"ftypavif":
        return Kind("other_image", "AVIF")
    if head[4:8] == b"jP  " or head[:4] == b"\xff\x4f\xff\x51":
        return Kind("other_image", "JPEG 2000")
    if head[:6] in (b"GIF87a", b"GIF89a"):
        return Kind("other_image", "GIF")
    found = format_of(head)
    # two letters are a weak sign: a text may begin with BM
    if found and (found != "BMP" or head[6:10] == bytes(4)):
        return Kind("image", found)
    return Kind("no_image", "no image")
