"""A Bundle is a trained model as three files: bundle.json, weights.safetensors, model.onnx.

A bundle also holds input_gate.npz, which says about which images it can answer (input_gate.py); older ones do not.
Beside them lies learned.json, the neutral ids of what it learned from (derm_ml/data/learned_ids.py), and bundle.sig
where bundles are signed (signing.py); a service has no use for the first.

A method that matches pairs may have no graph of its own and bring others along (a face detector): its card names them.

bundle.json holds everything that is not a number of the network: labels, preprocessing, calibration,
operating points, the recipe, the data it was trained on, and the sha256 of the other files.
Nothing in a bundle is ever unpickled, and a graph that names files outside itself is not opened.
"""

from __future__ import annotations

import json
import shutil
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from derm_ml import RESEARCH_USE, DermError, formats
from derm_ml.bundles import signing
from derm_ml.bundles.network_format import NetworkDataFormat, mismatch, network_data_format
from derm_ml.bundles.onnx_file import GraphError, refuse_external_data
from derm_ml.files import replacing_folder, sha256, write_json
from derm_ml.images.settings import MaskRule, Preprocessing, Views
from derm_ml.metrics.heads import ClassifierHead
from derm_ml.metrics.points import OperatingPoint, UnclaimedPoint
from derm_ml.model_folder import CARD
from derm_ml.sentences import of_values
from derm_ml.synthetic_mark import is_synthetic, small_print_of
from derm_ml.tree import files_below

HeadKind = Literal[ClassifierHead, "mask", "pairs", "reconstruction"]  # what a graph gives
MODEL, WEIGHTS = "model.onnx", "weights.safetensors"
GATE = "input_gate.npz"  # which images the model is fit to answer about (input_gate.py); older bundles have none
LEARNED, SIGNATURE = "learned.json", "bundle.sig"
LEFT_OUT = f"{WEIGHTS}.left_out"  # holds their sha256 where a bundle was copied without them, to be served
# limits that are the same on every machine, far above what is trained here and far below what stops a server
FILE_BYTES = 2**30  # two ResNet-50 are 0.2 GB; protobuf itself ends at 2 GB
CARD_BYTES = 8 * 2**20  # a card with all points and audits has some 20 kB


class BundleError(DermError, ValueError):
    """A bundle is missing, damaged or was tampered with. It must not be loaded."""


class _Card(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PseudoLabelling(_Card):
    """What training on pseudo-labels brought: the paired gain in (mean) AUC over the teacher on the validation split.

    `precision` has one row a label, value and slice of known truth: how often the labels given there were right.
    """

    table: str  # name and sha256 of the table
    images: int
    excluded: int  # left out, because their patient or a near-duplicate is in validation or test
    teacher: str  # version of the model that proposed the labels
    gain: float
    low: float
    high: float
    n: int
    split_hash: str
    accepted: bool
    precision: tuple[dict[str, Any], ...] = ()


class Quantisation(_Card):
    """What computing with 8-bit integers cost: the paired difference to the float32 graph on validation, in (mean) AUC,
    of masks in mean Dice.

    `images`: training images whose activations the ranges were taken from.
    """

    images: int
    difference: float
    low: float
    high: float
    n: int
    split_hash: str


class LocalCases(_Card):
    """The labelled cases of the place of use on which probabilities and operating points were fitted."""

    dataset_md5: str
    images: int
    groups: int  # distinct patients, lesions or near-duplicates among them
    split_hash: str


class FromTeacher(_Card):
    """Whose answers a network learned, and what it lost: the paired difference in (mean) AUC to its teacher on
    validation.

    `passes`: how often the teacher's networks look at an image, members times views; `images`: those whose answers were
    learned, `unlabelled` of them without a label.
    """

    teacher: str  # name of the model folder
    version: str
    passes: int
    images: int
    unlabelled: int
    difference: float
    low: float
    high: float
    n: int
    split_hash: str


class LearnedFile(_Card):
    """What the card says of learned.json: its sha256, and the secret its ids are keyed with (by name)."""

    sha256: str
    key_id: str


class BundleCard(_Card):
    """The content of bundle.json. Raises `ValueError` for an operating point fitted on the test split."""

    task: str
    recipe_name: str
    recipe: dict[str, Any]
    labels: tuple[str, ...]
    head: HeadKind
    preprocessing: Preprocessing
    views: Views = "none"  # test-time augmentation: logits averaged over these views of the square
    fellow: tuple[float, ...] = ()  # one a label: share of the person's other eye in its logit, if that is sent
    attributes: tuple[str, ...] = ()  # e.g. ("age", "sex"): a second graph input, missing values flagged
    temperature: float = Field(default=1.0, gt=0)
    temperatures: tuple[float, ...] = ()  # one a label instead, of a sigmoid head with several
    bias: tuple[float, ...] = ()  # one a label: probability = head(logit / temperature + bias), of a softmax head only
    # where it was fitted on local cases
    parameters: dict[str, Any] = {}  # settings and fitted numbers of a method that is more than one graph
    prevalence: dict[str, float] = {}  # of each label in the validation split: what probabilities are calibrated to
    # (of the local cases instead, where there are some)
    operating_points: tuple[OperatingPoint, ...] = ()
    unclaimed_points: tuple[UnclaimedPoint, ...] = ()
    class_limits: tuple[float, ...] = ()  # of a softmax head, one a label: least probability in a prediction set
    set_error: float = Field(default=0.1, gt=0, lt=1)  # how often at most such a set may lack the right class
    mask_rule: MaskRule = MaskRule(threshold=0.5)  # for the head "mask", whose graph gives a logit for every pixel
    dataset_md5: str
    split_hashes: dict[str, str]
    licences: dict[str, int] = {}
    backbone: str
    pretrained: str  # "none", "torchvision", "timm", "bundled" or "file:<name> sha256:<hex>"
    git_commit: str = "unknown"
    epochs: int
    validation: dict[str, float] = {}
    pseudo_labels: PseudoLabelling | None = None
    quantisation: Quantisation | None = None  # None: the graph computes with float32
    local_cases: LocalCases | None = None  # None: fitted on its own validation split
    distilled: FromTeacher | None = None  # None: it learned from labels alone
    learned: LearnedFile | None = None  # None: made before bundles said what they learned from
    network_data_format: NetworkDataFormat | None = None  # None: sealed before cards described their graphs
    files: dict[str, str] = {}  # name → sha256
    research_use: str = RESEARCH_USE

    @model_validator(mode="after")
    def _points_are_not_of_the_test_split(self) -> Self:
        for point in (*self.operating_points, *self.unclaimed_points):
            if point.split_hash == self.split_hashes.get("test"):
                raise ValueError(
                    f"the operating point '{point.name}' of {point.label} was fitted on the test split "
                    f"({point.split_hash}): what it reaches there proves nothing; fit it on validation"
                )
        return self

    @property
    def for_synthetic_images(self) -> bool:
        """Whether it learned from synthetic images, or by a recipe for them: it demonstrates the program."""
        return is_synthetic(self.licences, self.recipe_name)

    @property
    def small_print(self) -> str:
        """What stands in every picture that the model has a part in."""
        return small_print_of(self.for_synthetic_images)

    @property
    def has_gate(self) -> bool:
        """Whether an input gate lies beside it, which says which images the model is fit to answer about."""
        return GATE in self.files

    @property
    def point_names(self) -> tuple[str, ...]:
        """The operating points a request may name, in order, those without a threshold too."""
        return tuple(dict.fromkeys(p.name for p in (*self.operating_points, *self.unclaimed_points)))

    def threshold(self, label: str, point: str = "balanced") -> float:
        """Where `label` is decided: at `point`, else at the balanced point, else at 0.5."""
        fitted = {p.name: p.threshold for p in self.operating_points if p.label == label}
        return fitted.get(point, fitted.get("balanced", 0.5))


class Bundle:
    """A verified bundle folder. `Bundle.open(path)` checks every sha256 and raises `BundleError` otherwise."""

    def __init__(self, path: Path, card: BundleCard) -> None:
        self.path = path
        self.card = card

    @property
    def model(self) -> Path:
        return self.path / MODEL

    @property
    def weights(self) -> Path:
        return self.path / WEIGHTS

    @property
    def version(self) -> str:
        """A name of exactly this model: the first 12 hex digits of the sha256 of its card.

        The card holds the sha256 of graph and weights, so it names them, the calibration and the thresholds.
        """
        return sha256(self.path / CARD)[:12]

    @classmethod
    def open(cls, path: Path) -> Bundle:
        """Raises `BundleError` if a file is missing, too large or not the one the card names, if a graph names files
        outside itself, or if it takes or gives something else than the card says."""
        # what a bundle holds lies in it: a link would be packed into a Bento with whatever it leads to
        if path.is_dir() and (odd := files_below(path, links="none", hidden=True).odd):
            raise BundleError(f"{path / odd[0].file}: {odd[0].reason}")
        card, card_path = read_card(path), path / CARD
        if card.head != "pairs" and set(card.files) - {GATE} != {MODEL, WEIGHTS}:
            raise BundleError(f"{card_path}: names the files {sorted(card.files)}, expected {MODEL} and {WEIGHTS}")
        if (path / GATE).exists() and not card.has_gate:
            raise BundleError(f"{path / GATE}: {CARD} does not name it with its sha256; it was put there later")
        files = dict(card.files)
        if _left_out(path) == files.get(WEIGHTS) and not (path / WEIGHTS).exists():  # a service does not read them
            files.pop(WEIGHTS, None)
        if card.learned and (path / LEARNED).is_file():  # a service is built without it
            files[LEARNED] = card.learned.sha256
        for name, expected in files.items():
            _verify(path, name, expected)
        found = _graphs_of(path, card)
        if card.network_data_format is None:
            return cls(path, card.model_copy(update={"network_data_format": found}))
        if wrong := mismatch(card.network_data_format, found):
            raise BundleError(f"{card_path} {wrong}: it was not sealed with this graph; train the model again")
        return cls(path, card)

    @classmethod
    def open_trusted(cls, path: Path) -> Bundle:
        """The same, and only if it is signed as `require_trusted` asks, and is no copy that was made to be served."""
        bundle = cls.open(path)
        bundle.require_whole()
        require_trusted(path)
        return bundle

    def require_whole(self) -> None:
        """Raises `BundleError` for a copy without its weights: it can be served, but not registered or promoted."""
        if (self.path / LEFT_OUT).exists():
            raise BundleError(f"{self.path} was copied to be served, without {WEIGHTS}: take the bundle it was made of")


def require_trusted(path: Path) -> None:
    """Where trusted keys are set (signing.py), raises `BundleError` unless one of them signed the bundle.

    Asked before a bundle is promoted, served or predicts.
    """
    try:
        signing.refuse_untrusted(path / CARD, path / SIGNATURE)
    except signing.SigningError as error:
        raise BundleError(str(error)) from error


def copy_to_serve(bundle: Bundle, path: Path) -> None:
    """Copy a bundle without what no service reads: its weights, whose sha256 stands for them, and the ids of what it
    learned from."""
    shutil.copytree(bundle.path, path, ignore=shutil.ignore_patterns(WEIGHTS, LEARNED))
    if WEIGHTS in bundle.card.files:
        (path / LEFT_OUT).write_text(bundle.card.files[WEIGHTS] + "\n", encoding="utf-8")


def _left_out(path: Path) -> str:
    """The sha256 of weights that were left out on purpose, "" where none were."""
    note = path / LEFT_OUT
    if not note.is_file() or note.stat().st_size > 100:  # a sha256 has 64 digits
        return ""
    return note.read_bytes().decode("ascii", "replace").strip()


def _card_text(path: Path) -> str:
    if path.stat().st_size > CARD_BYTES:
        raise ValueError(f"it has {path.stat().st_size:,} bytes, more than {CARD_BYTES:,}")
    return path.read_text(encoding="utf-8")


def _verify(folder: Path, name: str, expected: str) -> None:
    """Raises `BundleError` unless the file lies in the folder itself, is not too large and has that sha256."""
    if Path(name).name != name or name in ("", ".", ".."):
        raise BundleError(f"{folder / CARD}: names the file '{name}', which does not lie in the bundle itself")
    file = folder / name
    if not file.is_file():
        raise BundleError(f"{file}: missing")
    if file.stat().st_size > FILE_BYTES:
        raise BundleError(
            f"{file}: {file.stat().st_size:,} bytes, more than the {FILE_BYTES:,} a bundle's file may have"
        )
    if sha256(file) != expected:
        raise BundleError(f"{file}: its sha256 is not the one in {CARD}; the file was changed or is damaged")
    if file.suffix == ".onnx":
        try:
            refuse_external_data(file)
        except GraphError as error:
            raise BundleError(f"{file}: {error}") from error


def read_card(path: Path) -> BundleCard:
    """The card of the bundle at `path`, its files not looked at. Raises `BundleError` if there is none to read."""
    card_path = path / CARD
    try:
        stored = json.loads(_card_text(card_path))
    except (FileNotFoundError, NotADirectoryError):
        raise BundleError(f"{path}: no {CARD}; train one with `derm fit`") from None
    except OSError as error:
        raise BundleError(f"{card_path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # no JSON, no UTF-8, too large, nested without end
        raise BundleError(f"{card_path}: not a readable bundle card: {error}") from error
    stored = formats.BUNDLE.read(stored, card_path, BundleError)
    try:
        return BundleCard.model_validate(stored)
    except ValidationError as error:
        raise BundleError(f"{card_path}: not a readable bundle card: {of_values(error)}") from error


def _graphs_of(folder: Path, card: BundleCard) -> NetworkDataFormat:
    """What the bundle's graphs take and give. Raises `BundleError` for a file that is no graph."""
    graphs = sorted(name for name in card.files if name.endswith(".onnx"))
    try:
        return network_data_format(folder, graphs, card.head, MODEL)
    except GraphError as error:
        raise BundleError(str(error)) from error


def model_of(task: str, path: Path) -> Path:
    """`path`, if a model of that task lies there which predicts. Raises `BundleError` for one of something else."""
    card = read_card(path)
    if card.task != task:
        raise BundleError(f"{path} is a model of {card.task}, not of {task}: choose one of {task}")
    if card.head == "reconstruction":
        raise BundleError(f"{path} is an autoencoder, which predicts nothing: choose a model `derm fit` made")
    return path


def writing_bundle(path: Path) -> AbstractContextManager[Path]:
    """A folder to write graph, weights and card into; it appears at `path` whole or not at all."""
    return replacing_folder(path)


def seal(folder: Path, card: BundleCard) -> BundleCard:
    """Write bundle.json into `folder`, with the sha256 of the files beside it and what its graphs take and give, and
    sign it where a key is set.
    """
    own = (CARD, LEARNED, SIGNATURE)
    names = sorted(path.name for path in folder.iterdir() if path.name not in own)
    update: dict[str, Any] = {"files": {name: sha256(folder / name) for name in names}}
    if (folder / LEARNED).is_file():
        key_id = json.loads((folder / LEARNED).read_text(encoding="utf-8"))["key_id"]
        update["learned"] = LearnedFile(sha256=sha256(folder / LEARNED), key_id=key_id)
    sealed = card.model_copy(update=update)
    sealed = sealed.model_copy(update={"network_data_format": _graphs_of(folder, sealed)})
    write_json(folder / CARD, formats.BUNDLE.stamped(sealed.model_dump(mode="json")))
    signing.sign_where_a_key_is_set(folder / CARD, folder / SIGNATURE)
    return sealed
