"""Similar images: the pictures of a dataset nearest to a new one, in the embedding of one model version.

    similar = SimilarImages.open(folder, predictor.bundle.version)
    answer(similar, predictor, image, {"k": "5", "licence": "CC-0"})

The folder holds what a service needs to answer, and no more:

    index.json       model version, dataset md5, one list a column (id, label, group, split, …), sha256 of the others
    vectors.faiss    the index (embeddings/index.py), one unit vector an image in the same order
    thumbnails.zip   one small JPEG an image, uncompressed; left out of a Bento unless its operator asks for it

It leaves the machine with a Bento, so images, patients and groups stand in it as neutral ids (derm_ml/neutral_ids.py),
in the order of these ids: that of the file names would tell which is which. `names.csv` beside the folder stays
here and says which image an id means.

No torch, no pandas: the service answers from it. Research use only.
"""

from __future__ import annotations

import base64
import json
import re
import shutil
import zipfile
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from derm_ml import RESEARCH_USE, DermError, formats
from derm_ml.asking.answers import Envelope
from derm_ml.bundles.classifier import Classifier
from derm_ml.files import replacing_file, replacing_folder, sha256, write_json
from derm_ml.images.fingerprints import fingerprint
from derm_ml.images.index import VectorIndex
from derm_ml.images.preprocess import limit_side
from derm_ml.images.thumbnail import thumbnail
from derm_ml.neutral_ids import DIGITS, NeutralIds, installation_ids
from derm_ml.records import normal_id
from derm_ml.tables import read_rows, write_rows
from derm_ml.tree import files_below

if TYPE_CHECKING:
    import pandas as pd

    from derm_ml.data.dataset import Dataset

CARD, VECTORS, THUMBNAILS = "index.json", "vectors.faiss", "thumbnails.zip"
NAMES = "names.csv"  # beside the index's folder, never in it
DELIVERIES = "batches"  # sources below it are named by whoever delivered them, all others by the operator
COLUMNS = ("id", "label", "group", "patient", "split", "source", "licence", "pixels")
SIDE = 96  # pixels of a thumbnail: a lesion is recognised, a face in the background is not
_NEUTRAL = re.compile(rf"[0-9a-fA-F]{{{DIGITS}}}")
K, MOST = 5, 50  # neighbours by default, and at most


class SimilarImagesError(DermError, ValueError):
    """The index is missing, damaged or of another model, or was asked for what it does not hold."""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A picture of the dataset and the cosine (-1..1) of its embedding with the query's."""

    id: str
    label: str
    score: float
    split: str
    source: str
    licence: str


class SimilarImages:
    """The searchable pictures of one dataset under one model version. Thread-safe: nothing changes after `open`."""

    def __init__(self, folder: Path, card: Mapping[str, Any], index: VectorIndex) -> None:
        self.folder = folder
        # stays open: its directory is read once
        self._thumbnails = zipfile.ZipFile(folder / THUMBNAILS) if THUMBNAILS in card["files"] else None
        self.key_id: str = card["key_id"]
        self.model_version: str = card["model_version"]
        self.dataset_md5: str = card["dataset_md5"]
        self.index = index
        self.rows = {name: np.array(card["rows"][name], dtype=str) for name in COLUMNS}

    @classmethod
    def open(cls, folder: Path, model_version: str) -> SimilarImages:
        """Open an index of that model version. Raises `SimilarImagesError` if it is missing, changed or another's."""
        path = folder / CARD
        try:
            card = formats.SIMILAR_IMAGES.read(json.loads(path.read_text(encoding="utf-8")), path, SimilarImagesError)
            files, version, n = card["files"], card["model_version"], len(card["rows"]["id"])
            named = {VECTORS, *files}
        except FileNotFoundError:
            raise SimilarImagesError(f"{path} is missing: materialise `similar_images` of this model first") from None
        except SimilarImagesError:
            raise
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise SimilarImagesError(f"{path}: not the card of an index: {error!r}") from error
        if odd := files_below(folder, links="none", hidden=True).odd:
            raise SimilarImagesError(f"{folder / odd[0].file}: {odd[0].reason}")
        if version != model_version:
            raise SimilarImagesError(
                f"{path} is of model {version}, not of {model_version}: their vectors do not compare"
            )
        for name in sorted(named):
            if not (folder / name).is_file() or sha256(folder / name) != files.get(name):
                raise SimilarImagesError(f"{folder / name} is missing, damaged or was changed: make the index again")
        index = VectorIndex.load(folder / VECTORS)
        if len(index) != n:
            raise SimilarImagesError(f"{folder}: {len(index)} vectors for {n} images: make the index again")
        return cls(folder, card, index)

    def __len__(self) -> int:
        return len(self.rows["id"])

    @property
    def has_thumbnails(self) -> bool:
        return self._thumbnails is not None

    @property
    def licences(self) -> list[str]:
        return sorted(set(self.rows["licence"]))

    def find(
        self, embedding: np.ndarray, k: int = K, leave_out: Collection[str] = (), licences: Collection[str] = ()
    ) -> list[Neighbour]:
        """The `k` pictures nearest to an embedding (D,), nearest first; fewer if no more are allowed.

        `leave_out` names groups (patients, lesions, duplicate clusters); `licences`, if any, are the only ones shown.
        """
        allowed = ~np.isin(self.rows["group"], list(leave_out))
        if licences:
            allowed &= np.isin(self.rows["licence"], list(licences))
        if not allowed.any():
            return []
        query = embedding / max(float(np.linalg.norm(embedding)), 1e-12)
        scores, places = self.index.search(query[None], k, None if allowed.all() else allowed)
        found = [(float(score), int(place)) for score, place in zip(scores[0], places[0], strict=True) if place >= 0]
        return [
            Neighbour(
                **{name: str(self.rows[name][place]) for name in ("id", "label", "split", "source", "licence")},
                score=min(score, 1.0),
            )
            for score, place in found
        ]

    def groups_of(self, pixels: str = "", patients: Collection[str] = ()) -> set[str]:
        """The groups of a known image (sha256 of its pixels) and of patients (neutral ids); empty if none is known."""
        same = np.isin(self.rows["patient"], list(patients))
        if pixels:
            same |= self.rows["pixels"] == pixels
        return set(self.rows["group"][same].tolist())

    def patient_ids(self, given: str, ids: NeutralIds | None) -> set[str]:
        """The neutral ids a patient's id may stand for: the one `ids` makes of it, and itself if it looks like one.

        Raises `SimilarImagesError` where an id of the data set was given and there is no secret, or another than the
        index was made with: whoever is not recognised would be shown as a stranger.
        """
        neutral = {given.lower()} if _NEUTRAL.fullmatch(given) else set()
        if ids is not None and ids.key_id == self.key_id:
            return neutral | {ids.of("patient", normal_id(given))}
        if not neutral:
            why = "has no secret" if ids is None else "has another secret than the index was made with"
            raise SimilarImagesError(
                f"this service {why}, so it cannot tell whom the patient's id means; send the neutral id that "
                "`derm neutral-id patient ID` prints where the index was made, or set DERM_SECRET"
            )
        return neutral

    def thumbnail(self, name: str) -> bytes:
        """The JPEG of an image. Raises `KeyError` for an unknown id, `SimilarImagesError` where there are none."""
        if self._thumbnails is None:
            raise SimilarImagesError("this index holds no thumbnails; ask without them")
        return self._thumbnails.read(f"{name}.jpg")


def build_similar(
    table: pd.DataFrame, dataset: Dataset, folder: Path, progress: Callable[[int], None] | None = None
) -> SimilarImages:
    """Index the images of an embedding table (embeddings/extract.py) at `folder`, whole or not at all.

    Which image an id means stands in `names.csv` beside `folder`.
    """
    from derm_ml.embeddings.extract import unit, vectors

    ids = installation_ids()
    neutral = {name: ids.of("image", name) for name in table["id"]}
    table = table.assign(neutral=[neutral[name] for name in table["id"]]).sort_values("neutral", kind="stable")
    rows = dataset.manifest.set_index("id").loc[table["id"]].reset_index().to_dict("records")
    pixels = []
    with replacing_folder(folder) as temporary:
        with zipfile.ZipFile(temporary / THUMBNAILS, "w") as archive:
            for row in rows:
                picture = dataset.image(row)
                pixels.append(fingerprint(picture).pixels)
                # a fixed date: the same pictures give the same bytes
                archive.writestr(
                    zipfile.ZipInfo(f"{neutral[row['id']]}.jpg", (1980, 1, 1, 0, 0, 0)), thumbnail(picture, SIDE)
                )
                if progress:
                    progress(1)
        VectorIndex.build(unit(vectors(table))).save(temporary / VECTORS)
        columns = {name: table[name].astype(str).tolist() for name in ("label", "split", "licence")}
        columns["id"] = table["neutral"].tolist()
        columns["group"] = [ids.of("group", name) for name in table["group"]]
        columns["patient"] = [ids.of("patient", normal_id(name)) if name else "" for name in table["patient"]]
        columns["source"] = [
            ids.of("source", name) if name.split("/")[0] == DELIVERIES else name for name in table["source"]
        ]
        columns["pixels"] = pixels
        write_json(
            temporary / CARD,
            formats.SIMILAR_IMAGES.stamped(
                {
                    "key_id": ids.key_id,
                    "model_version": str(table["model_version"].iloc[0]),
                    "dataset_md5": str(table["dataset_md5"].iloc[0]),
                    "rows": columns,
                    "files": {name: sha256(temporary / name) for name in (VECTORS, THUMBNAILS)},
                    "research_use": RESEARCH_USE,
                }
            ),
        )
    with (
        replacing_file(folder.parent / NAMES) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        write_rows(file, ("id", "image"), ({"id": made, "image": name} for name, made in neutral.items()))
    return SimilarImages.open(folder, str(table["model_version"].iloc[0]))


def names_of(similar: SimilarImages) -> dict[str, str]:
    """Neutral id → the image it means, where the index was made; elsewhere empty."""
    path = similar.folder.parent / NAMES
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        return {row["id"]: row["image"] for row in read_rows(file)}


def ship(folder: Path, target: Path, thumbnails: bool) -> None:
    """Copy what a Bento takes of an index to `target`, which must not exist: without thumbnails unless asked for."""
    card = json.loads((folder / CARD).read_text(encoding="utf-8"))
    if not thumbnails:
        card["files"].pop(THUMBNAILS, None)
    target.mkdir(parents=True)
    for name in card["files"]:
        shutil.copyfile(folder / name, target / name, follow_symlinks=False)
    write_json(target / CARD, card)


def similar_answer(
    similar: SimilarImages,
    predictor: Classifier,
    image: np.ndarray,
    options: Mapping[str, str],
    ids: NeutralIds | None = None,
) -> dict[str, Any]:
    """What `/similar` and `derm similar` say about one RGB image (H, W, 3) uint8.

    `options`: `k` (1 to 50), `patient` (whose images are left out: a neutral id, or, where `ids` has the secret of the
    index, an id of the dataset), `licence` (names separated by commas: only these are shown), `thumbnails` (`yes`: a
    JPEG data URL each). An image that is itself in the dataset is found out by its pixels: it and its patient are left
    out. Raises `SimilarImagesError` for another `k`, a licence no image is under, a patient that cannot be recognised,
    or thumbnails the index does not hold.
    """
    k = int(options.get("k") or K)
    if not 1 <= k <= MOST:
        raise SimilarImagesError(f"k must be from 1 to {MOST}")
    stored = limit_side(image, predictor.card.preprocessing.store_side)
    own = similar.groups_of(fingerprint(stored).pixels)
    patient = options.get("patient", "")
    left_out = own | (similar.groups_of(patients=similar.patient_ids(patient, ids)) if patient else set())
    wanted = [name.strip() for name in options.get("licence", "").split(",") if name.strip()]
    if not set(wanted) <= set(similar.licences):
        raise SimilarImagesError(f"the images are under these licences: {', '.join(similar.licences)}")
    found = similar.find(predictor([image]).embedding[0], k, left_out, wanted)
    neighbours = [asdict(neighbour) for neighbour in found]
    if options.get("thumbnails") == "yes":
        for neighbour in neighbours:
            jpeg = base64.b64encode(similar.thumbnail(neighbour["id"])).decode("ascii")
            neighbour["thumbnail"] = f"data:image/jpeg;base64,{jpeg}"
    said = {
        "neighbours": neighbours,
        "searched": len(similar),
        "picture_is_in_the_set": bool(own),
        "left_out": int(np.isin(similar.rows["group"], list(left_out)).sum()),
    }
    return Envelope.of(predictor.card, similar.model_version).around(said) | {"dataset_md5": similar.dataset_md5}
