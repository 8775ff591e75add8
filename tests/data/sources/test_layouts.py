"""Every published set, in the layout in which it is offered, is read whole by every task that can use it.

Whoever puts a downloaded set into the raw folder gets its images, its labels and its splits, or is told which label is
left out; none is lost, and none becomes something else. The table of docs/layouts.md is this one.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from derm_ml.data.sources.published import layouts
from derm_ml.records import DataError, Reading
from derm_ml.registry import get_task
from tests.data.sources import published_sets

M, N, K = "melanoma", "nevus", "seborrheic_keratosis"
ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Lesions:
    """What both lesion tasks make of a set: `labels` are counts of melanoma, nevus and keratosis, `malignant` and
    `benign` those of the screening; `facts` what the manifest keeps of one image."""

    labels: tuple[int, int, int]
    malignant: int
    benign: int
    left_out: dict[str, int]
    splits: dict[str, int]  # of the screening
    left_out_of_screening: dict[str, int] = field(default_factory=dict)
    facts: dict[str, object] = field(default_factory=dict)
    lesions: int = 0  # groups of images of one lesion


SKIN = {
    "isic2016": Lesions((2, 0, 0), 2, 3, {"benign": 3}, {"train": 3, "test": 2}),
    "isic2016_part3b": Lesions((2, 0, 0), 2, 3, {"benign": 3}, {"train": 3, "test": 2}),
    "isic2016_all_parts": Lesions((2, 0, 0), 2, 3, {"benign": 3}, {"train": 3, "test": 2}),
    "isic2017": Lesions((3, 3, 3), 3, 6, {}, {"train": 3, "validation": 3, "test": 3},
                        facts={"age": 55.0, "sex": "female", "diagnosis": "melanoma"}),
    "isic2018_task3": Lesions((3, 3, 3), 9, 12, {"BCC": 3, "AKIEC": 3, "DF": 3, "VASC": 3},
                              {"train": 7, "validation": 7, "test": 7}, lesions=4),
    "isic2019": Lesions((2, 2, 2), 6, 10, {"BCC": 2, "AK": 2, "DF": 2, "VASC": 2, "SCC": 2, "UNK": 1},
                        {"train": 8, "test": 8}, {"UNK": 1}, lesions=8,
                        facts={"age": 60.0, "sex": "male", "site": "anterior torso", "diagnosis": "MEL"}),
    "isic2020": Lesions((1, 1, 1), 1, 3, {"benign": 1, "without a label": 2}, {"train": 4}, {"without a label": 2},
                        lesions=4, facts={"age": 45.0, "sex": "male", "site": "torso", "diagnosis": "nevus"}),
    "isic2020_kaggle": Lesions((1, 1, 1), 1, 3, {"benign": 1, "without a label": 2}, {"train": 4},
                               {"without a label": 2}),
    "isic_archive": Lesions((1, 1, 1), 2, 2, {"Basal cell carcinoma": 1, "Solar or actinic keratosis": 1,
                                              "without a label": 1}, {"": 4},
                            {"Solar or actinic keratosis": 1, "without a label": 1}, lesions=4,
                            facts={"age": 55.0, "sex": "female", "site": "lower extremity", "modality": "dermoscopic",
                                   "diagnosis": "Nevus"}),
    "ham10000": Lesions((2, 2, 2), 4, 6, {"bcc": 1, "akiec": 1, "df": 1, "vasc": 1}, {"": 7, "test": 3}, lesions=4,
                        facts={"age": 50.0, "sex": "male", "site": "back", "diagnosis": "mel"}),
    "ham10000_without_ending": Lesions((1, 1, 1), 3, 4, {"bcc": 1, "akiec": 1, "df": 1, "vasc": 1}, {"": 7}, lesions=4),
    "ham10000_kaggle": Lesions((1, 1, 1), 3, 4, {"bcc": 1, "akiec": 1, "df": 1, "vasc": 1}, {"": 7}, lesions=4),
    "ham10000_merged": Lesions((1, 1, 1), 3, 4, {"bcc": 1, "akiec": 1, "df": 1, "vasc": 1}, {"": 7}, lesions=4),
    "ham10000_class_folders": Lesions((1, 1, 1), 3, 4, {"bcc": 1, "akiec": 1, "df": 1, "vasc": 1}, {"": 7}),
    "ham10000_class_folders_and_list": Lesions((1, 1, 1), 3, 4, {"bcc": 1, "akiec": 1, "df": 1, "vasc": 1}, {"": 7},
                                               lesions=4),
    "bcn20000": Lesions((1, 1, 1), 3, 5, {"BCC": 1, "AK": 1, "SCC": 1, "DF": 1, "VASC": 1, "without a label": 2},
                        {"train": 8}, {"without a label": 2}, lesions=8),
    "ph2": Lesions((1, 3, 0), 1, 3, {}, {"": 4}),
    "ph2_excel": Lesions((1, 3, 0), 1, 3, {}, {"": 4}),
    "ph2_both_lists": Lesions((1, 3, 0), 1, 3, {}, {"": 4}),
    "derm7pt": Lesions((2, 1, 1), 3, 2, {"basal cell carcinoma": 1, "miscellaneous": 1},
                       {"train": 3, "validation": 1, "test": 1}, {"miscellaneous": 1}, lesions=5,
                       facts={"sex": "female", "site": "back", "diagnosis": "clark nevus"}),
    "pad_ufes_20": Lesions((1, 1, 1), 3, 3, {"BCC": 1, "ACK": 1, "SCC": 1}, {"": 6}, lesions=6,
                           facts={"age": 60.0, "sex": "female", "site": "neck", "fitzpatrick": "3",
                                  "diagnosis": "ACK"}),
    "fitzpatrick17k": Lesions((1, 0, 1), 2, 2, {"psoriasis": 1, "mycosis fungoides": 1, "dermatofibroma": 1}, {"": 4},
                              {"listed without an image": 1}, facts={"fitzpatrick": "5", "diagnosis": "psoriasis"}),
    "ddi": Lesions((1, 1, 1), 2, 3, {"folliculitis": 1, "mycosis-fungoides": 1}, {"": 5},
                   facts={"fitzpatrick": "5-6", "diagnosis": "mycosis-fungoides"}),
    "scin": Lesions((0, 1, 0), 2, 1, {"Eczema": 1, "Basal Cell Carcinoma": 2, "without a label": 2}, {"": 3},
                    {"Eczema": 1, "without a label": 2}, lesions=2,
                    facts={"fitzpatrick": "3", "monk": "4", "sex": "female", "age_group": "age_30_to_39",
                           "diagnosis": "Basal Cell Carcinoma"}),
}  # fmt: skip


@pytest.fixture
def written(tmp_path):
    def write(name: str) -> Path:
        root = tmp_path / "raw"
        root.mkdir()
        {**published_sets.SKIN, **published_sets.RETINA, **published_sets.BOXES}[name](root)
        return root

    return write


def read(task: str, root: Path, **settings) -> Reading:
    one = get_task(task)
    return one.read(root, one.settings(**settings))


@pytest.mark.parametrize("name", SKIN)
def test_lesions(name, written):
    expected, root = SKIN[name], written(name)
    reading = read("lesion_classification", root)
    assert reading.problems == ()
    found = Counter(s.label for s in reading.samples)
    assert {label: n for label, n in zip((M, N, K), expected.labels, strict=True) if n} == found
    assert reading.left_out == expected.left_out

    screening = read("malignancy_screening", root)
    assert screening.problems == ()
    found = Counter(s.target["malignant"] for s in screening.samples)
    assert (found[1.0], found[0.0]) == (expected.malignant, expected.benign)
    assert screening.left_out == expected.left_out_of_screening
    assert Counter(s.split for s in screening.samples) == expected.splits
    assert len({s.lesion for s in screening.samples} - {""}) == expected.lesions
    if expected.facts:
        assert expected.facts in [dict(s.attributes) for s in screening.samples]


RETINA = {  # split → finding → images that have it; and facts of one image
    "rfmid": ({split: {"diabetic_retinopathy": 1, "macular_degeneration": 1, "myopia": 1, "optic_disc_cupping": 1,
                       "normal": 1} for split in ("train", "validation", "test")}, {}),
    "aptos2019": ({"train": {"diabetic_retinopathy": 4, "none": 1}, "": {"unlabelled": 1}}, {}),
    "eyepacs": ({"train": {"diabetic_retinopathy": 3, "none": 1}, "test": {"diabetic_retinopathy": 3, "none": 1}},
                {"eye": "left"}),
    "messidor2": ({"": {"diabetic_retinopathy": 1, "none": 1, "unlabelled": 1}}, {}),
    "brset": ({"": {"diabetic_retinopathy": 1, "macular_degeneration": 1, "optic_disc_cupping": 1, "none": 1}},
              {"age": 48.0, "sex": "male", "device": "canon cr", "eye": "right"}),
    "idrid": ({split: {"diabetic_retinopathy": 2, "macular_edema": 2, "none": 1} for split in ("train", "test")}, {}),
    "odir5k": ({"": {"normal": 4, "diabetic_retinopathy": 1, "opacity": 1, "glaucoma": 2}},
               {"age": 60.0, "sex": "female", "eye": "left"}),
    "odir5k_full_df": ({"": {"normal": 4, "diabetic_retinopathy": 1, "opacity": 1, "glaucoma": 2}},
                       {"age": 60.0, "sex": "female", "eye": "left"}),
    "vietai": ({"": {"diabetic_retinopathy": 1, "glaucoma": 1, "macular_degeneration": 1, "normal": 1}}, {}),
    "dr_class_folders": ({"": {"diabetic_retinopathy": 4, "none": 1}}, {}),
    "finding_list": ({"": {"diabetic_retinopathy": 1, "glaucoma": 1, "normal": 1}}, {}),
}  # fmt: skip


@pytest.mark.parametrize("name", RETINA)
def test_findings(name, written):
    expected, facts = RETINA[name]
    reading = read("retinal_findings", written(name), findings=[], minimum_positives=1)
    assert reading.problems == ()
    found: dict[str, Counter[str]] = {}
    for sample in reading.samples:
        found.setdefault(sample.split, Counter()).update(sample.positives or ("unlabelled",))
    assert found == expected
    assert facts in [dict(s.attributes) for s in reading.samples]


@pytest.mark.parametrize("name", published_sets.BOXES)
def test_boxes(name, written):
    """Each tool has its own folders, corners and splits; the box is the same one."""
    reading = read("persistent_conditions", written(name))
    assert reading.problems == ()
    assert [(r.label, *(round(v, 2) for v in r.box)) for s in reading.samples for r in s.regions["first"]] == [
        ("pimple", *published_sets.BOX)
    ] * 3
    assert Counter(s.split for s in reading.samples) == {"train": 1, "validation": 1, "test": 1}


@pytest.mark.parametrize(
    ("name", "splits"),
    [
        ("isic2016_part3b", {"train": 3, "test": 2}),
        ("isic2016_all_parts", {"train": 3, "test": 2}),
        ("isic2017", {"train": 3, "validation": 3, "test": 3}),
        ("ham10000", {"": 7}),
        ("ph2_excel", {"": 4}),
    ],
)
def test_masks(name, splits, written):
    """Each image once, with its own mask and split, wherever the other parts of the publication lie."""
    reading = read("lesion_segmentation", written(name))
    assert reading.problems == ()
    assert Counter(sample.split for sample in reading.samples) == splits
    for sample in reading.samples:
        assert Path(sample.files["mask"]).stem.lower().startswith(f"{Path(sample.files['image']).stem.lower()}_")


def test_a_wrong_cross_is_named_by_its_row(written):
    import openpyxl

    root = written("ph2_excel")
    book = openpyxl.load_workbook(root / "PH2_dataset.xlsx")
    book.active["D15"] = "maybe"
    book.save(root / "PH2_dataset.xlsx")
    with pytest.raises(DataError, match=r"PH2_dataset\.xlsx:15: Atypical Nevus is 'maybe'; write X"):
        read("lesion_classification", root)


def test_what_a_set_does_not_say_stays_unknown(written):
    """Grade 0 of retinopathy is no healthy eye: it may have glaucoma."""
    reading = read("retinal_findings", written("aptos2019"), findings=[], minimum_positives=1)
    healthy = next(s for s in reading.samples if s.positives == ("none",))
    assert set(healthy.target) == {"diabetic_retinopathy"}


def test_an_eye_has_the_findings_that_its_own_keywords_name(written):
    """ODIR-5K labels patients: a healthy fellow eye must not teach what retinopathy looks like."""
    reading = read("retinal_findings", written("odir5k"), findings=[], minimum_positives=1)
    left, right = (next(s for s in reading.samples if s.id == f"0_{eye}") for eye in ("left", "right"))
    assert (left.positives, right.positives) == (("normal",), ("diabetic_retinopathy",))
    assert left.patient == right.patient == "0"


def test_every_image_says_its_own_licence(written):
    """The archive's download mixes licences: whoever trains on non-commercial images must find that."""
    reading = read("malignancy_screening", written("isic_archive"))
    assert Counter(s.licence for s in reading.samples) == {"CC-0": 1, "CC-BY-NC": 3}


def test_the_documented_table_is_the_one_tested():
    """A set in docs/layouts.md that no test reads is a promise; a description without a row is one nobody finds."""
    rows = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs" / "layouts.md").read_text(), flags=re.MULTILINE)
    assert set(layouts()) <= set(rows)
    tested = {
        re.sub(r"_(without_ending|kaggle|merged|class_folders.*|full_df|part3b|all_parts|excel|both_lists)$", "", name)
        for name in (*SKIN, *RETINA)
    }
    assert set(layouts()) <= tested
