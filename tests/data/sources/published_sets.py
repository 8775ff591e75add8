"""Every published layout in small: its file names, columns and folders, with drawn images.

`SKIN[name](root)` writes one."""

from __future__ import annotations

import csv
import io
import itertools
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
from PIL import Image

_number = itertools.count()


def picture(path: Path, side: int = 24) -> None:
    """A drawn image that no other one resembles, in the format its name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(next(_number))
    pixels = np.kron(rng.integers(40, 220, (6, 6, 3)), np.ones((side // 6, side // 6, 1))).astype(np.uint8)
    Image.fromarray(pixels).save(path)


def mask(path: Path, side: int = 24) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((side, side), np.uint8)
    pixels[6:18, 6:18] = 255
    Image.fromarray(pixels).save(path)


def table(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]], separator: str = ",") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    csv.writer(text, delimiter=separator, lineterminator="\n").writerows([*([header] if header else []), *rows])
    path.write_text(text.getvalue(), encoding="utf-8")


def one_hot(name: str, classes: Sequence[str]) -> list[float]:
    return [float(name == one) for one in classes]


def isic2016(root: Path) -> None:
    for part, labels in (("Training", ("benign", "malignant", "benign")), ("Test", ("0.0", "1.0"))):
        rows = [(f"ISIC_{part[:2]}{k}", label) for k, label in enumerate(labels)]
        table(root / f"ISBI2016_ISIC_Part3_{part}_GroundTruth.csv", (), rows)
        for name, _ in rows:
            picture(root / f"ISBI2016_ISIC_Part3_{part}_Data" / f"{name}.jpg")
    mask(root / "ISBI2016_ISIC_Part1_Training_GroundTruth" / "ISIC_Tr0_Segmentation.png")


def isic2016_part3b(root: Path) -> None:
    """Images and their masks in one folder."""
    for part, labels in (("Training", ("benign", "malignant", "benign")), ("Test", ("benign", "malignant"))):
        rows = [(f"ISIC_{part[:2]}{k}", label) for k, label in enumerate(labels)]
        table(root / f"ISBI2016_ISIC_Part3B_{part}_GroundTruth.csv", (), rows)
        for name, _ in rows:
            picture(root / f"ISBI2016_ISIC_Part3B_{part}_Data" / f"{name}.jpg")
            mask(root / f"ISBI2016_ISIC_Part3B_{part}_Data" / f"{name}_Segmentation.png")


def isic2016_all_parts(root: Path) -> None:
    """The images of parts 1, 3 and 3B are the same ones; part 2B has masks of structures."""
    isic2016_part3b(root)
    for part in ("Training", "Test"):
        truth = root / f"ISBI2016_ISIC_Part3B_{part}_GroundTruth.csv"
        (root / f"ISBI2016_ISIC_Part3_{part}_GroundTruth.csv").write_text(truth.read_text())
        for image in (root / f"ISBI2016_ISIC_Part3B_{part}_Data").glob("*.jpg"):
            for other in ("Part1", "Part3"):
                again = root / f"ISBI2016_ISIC_{other}_{part}_Data" / image.name
                again.parent.mkdir(exist_ok=True)
                again.write_bytes(image.read_bytes())
            mask(root / f"ISBI2016_ISIC_Part1_{part}_GroundTruth" / f"{image.stem}_Segmentation.png")
            picture(root / f"ISBI2016_ISIC_Part2B_{part}_Data" / f"{image.stem}_x.jpg")


def isic2017(root: Path) -> None:
    classes = ("melanoma", "seborrheic_keratosis")
    for part in ("Training", "Validation", "Test_v2"):
        rows = []
        for k, label in enumerate(("melanoma", "seborrheic_keratosis", "nevus")):
            name = f"ISIC_{len(part):03d}{k:04d}"
            rows.append((name, *one_hot(label, classes)))
            picture(root / f"ISIC-2017_{part}_Data" / f"{name}.jpg")
            mask(root / f"ISIC-2017_{part}_Data" / f"{name}_superpixels.png")
            mask(root / f"ISIC-2017_{part}_Part1_GroundTruth" / f"{name}_segmentation.png")
            (root / f"ISIC-2017_{part}_Part2_GroundTruth").mkdir(exist_ok=True)
            (root / f"ISIC-2017_{part}_Part2_GroundTruth" / f"{name}_features.json").write_text("{}")
        table(root / f"ISIC-2017_{part}_Part3_GroundTruth.csv", ("image_id", *classes), rows)
        table(
            root / f"ISIC-2017_{part}_Data" / f"ISIC-2017_{part}_Data_metadata.csv",
            ("image_id", "age_approximate", "sex"),
            [(row[0], 55, "female") for row in rows],
        )
    # the first release of the test set, whose images are those of the second
    for image in sorted((root / "ISIC-2017_Test_v2_Data").glob("*.jpg")):
        again = root / "ISIC-2017_Test_Data" / image.name
        again.parent.mkdir(exist_ok=True)
        again.write_bytes(image.read_bytes())
    truth = (root / "ISIC-2017_Test_v2_Part3_GroundTruth.csv").read_text()
    (root / "ISIC-2017_Test_Part3_GroundTruth.csv").write_text(truth)


SEVEN = ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")


def isic2018_task3(root: Path) -> None:
    for part in ("Training", "Validation", "Test"):
        rows = []
        for k, label in enumerate(SEVEN):
            rows.append((f"ISIC_{len(part):03d}{k:04d}", *one_hot(label, SEVEN)))
            picture(root / f"ISIC2018_Task3_{part}_Input" / f"{rows[-1][0]}.jpg")
        folder = root / f"ISIC2018_Task3_{part}_GroundTruth"
        table(folder / f"{folder.name}.csv", ("image", *SEVEN), rows)
        (folder / "LICENSE.txt").write_text("CC-BY-NC")
        if part == "Training":
            groups = [(row[0], f"HAM_{k // 2}", "histopathology") for k, row in enumerate(rows)]
            header = ("image", "lesion_id", "diagnosis_confirm_type")
            table(root / "ISIC2018_Task3_Training_LesionGroupings.csv", header, groups)


def isic2019(root: Path) -> None:
    classes = ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC", "UNK")
    for part in ("Training", "Test"):
        rows, facts = [], []
        for k, label in enumerate(classes if part == "Test" else classes[:-1]):
            name = f"ISIC_{len(part):03d}{k:04d}" + ("_downsampled" if k % 2 else "")
            more = (1.0, 0.0) if part == "Test" else ()
            rows.append((name, *one_hot(label, classes), *more))
            facts.append((name, 60.0, "anterior torso", f"MSK4_{k}" if part == "Training" else "", "male"))
            picture(root / f"ISIC_2019_{part}_Input" / f"{name}.jpg")
        more = ("score_weight", "validation_weight") if part == "Test" else ()
        table(root / f"ISIC_2019_{part}_GroundTruth.csv", ("image", *classes, *more), rows)
        header = ("image", "age_approx", "anatom_site_general", "lesion_id", "sex")
        table(root / f"ISIC_2019_{part}_Metadata.csv", header, facts)


_ISIC2020 = (("nevus", "benign"), ("melanoma", "malignant"), ("unknown", "benign"), ("seborrheic keratosis", "benign"))


def isic2020(root: Path) -> None:
    rows = [
        (f"ISIC_{k:07d}", f"IP_{k // 2}", f"IL_{k}", "male", 45.0, "torso", diagnosis, malignancy, int(k == 1))
        for k, (diagnosis, malignancy) in enumerate(_ISIC2020)
    ]
    header = ("image_name", "patient_id", "lesion_id", "sex", "age_approx", "anatom_site_general_challenge",
              "diagnosis", "benign_malignant", "target")  # fmt: skip
    table(root / "ISIC_2020_Training_GroundTruth_v2.csv", header, rows)
    table(
        root / "ISIC_2020_Training_GroundTruth.csv",
        [h for h in header if h != "lesion_id"],
        [row[:2] + row[3:] for row in rows],
    )
    table(root / "ISIC_2020_Training_Duplicates.csv", ("image_name_1", "image_name_2"), [("ISIC_1", "ISIC_2")])
    for row in rows:
        picture(root / "train" / f"{row[0]}.jpg")
    test = [(f"ISIC_9{k:06d}", "IP_9", 50.0, "torso", "female") for k in range(2)]
    header = ("image", "patient", "age_approx", "anatom_site_general", "sex")
    table(root / "ISIC_2020_Test_Metadata.csv", header, test)
    for row in test:
        picture(root / "ISIC_2020_Test_Input" / f"{row[0]}.jpg")


def isic2020_kaggle(root: Path) -> None:
    header = ("image_name", "patient_id", "sex", "age_approx", "anatom_site_general_challenge")
    rows = [
        (f"ISIC_{k:07d}", f"IP_{k // 2}", "male", 45.0, "torso", diagnosis, malignancy, int(k == 1))
        for k, (diagnosis, malignancy) in enumerate(_ISIC2020)
    ]
    table(root / "train.csv", (*header, "diagnosis", "benign_malignant", "target"), rows)
    table(root / "test.csv", header, [(f"ISIC_9{k:06d}", "IP_9", "female", 50.0, "torso") for k in range(2)])
    table(root / "sample_submission.csv", ("image_name", "target"), [("ISIC_9000000", 0)])
    for row in rows:
        picture(root / "jpeg" / "train" / f"{row[0]}.jpg")
    for k in range(2):
        picture(root / "jpeg" / "test" / f"ISIC_9{k:06d}.jpg")
    (root / "train").mkdir()
    (root / "train" / "readme.txt").write_text("DICOM files, removed here")


def isic_archive(root: Path) -> None:
    header = ("isic_id", "attribution", "copyright_license", "age_approx", "anatom_site_general", "diagnosis_1",
              "diagnosis_3", "diagnosis_confirm_type", "image_type", "lesion_id", "patient_id", "sex")  # fmt: skip
    said = (("Benign", "Nevus"), ("Malignant", "Melanoma Invasive"), ("Malignant", "Basal cell carcinoma"),
            ("Indeterminate", "Solar or actinic keratosis"), ("Benign", "Seborrheic keratosis"), ("", ""))  # fmt: skip
    rows = [
        (f"ISIC_{k:07d}", "Anonymous", "CC-0" if k % 2 else "CC-BY-NC", 55, "lower extremity", first, third,
         "histopathology", "dermoscopic", f"IL_{k}", f"IP_{k // 2}", "female")
        for k, (first, third) in enumerate(said)
    ]  # fmt: skip
    table(root / "metadata.csv", header, rows)
    (root / "attribution.txt").write_text("Anonymous")
    for row in rows:
        picture(root / f"{row[0]}.jpg")


_HAM = ("lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization")


def _ham_rows(prefix: str = "ISIC_002") -> list[tuple]:
    names = ("mel", "nv", "bkl", "bcc", "akiec", "df", "vasc")
    return [(f"HAM_{k // 2}", f"{prefix}{k:04d}", dx, "histo", 50.0, "male", "back") for k, dx in enumerate(names)]


def ham10000(root: Path) -> None:
    """Harvard Dataverse: a `.tab`, part folders, masks, the test set of ISIC 2018 with its own list."""
    rows = _ham_rows()
    table(root / "HAM10000_metadata.tab", (*_HAM, "dataset"), [(*row, "vidir_modern") for row in rows], "\t")
    for k, row in enumerate(rows):
        picture(root / f"HAM10000_images_part_{1 + k % 2}" / f"{row[1]}.jpg")
        mask(root / "HAM10000_segmentations_lesion_tschandl" / f"{row[1]}_segmentation.png")
    test = _ham_rows("ISIC_003")[:3]
    table(root / "ISIC2018_Task3_Test_GroundTruth.tab", (*_HAM, "dataset"), [(*row, "vidir") for row in test], "\t")
    for row in test:
        picture(root / "ISIC2018_Task3_Test_Images" / f"{row[1]}.jpg")


def ham10000_without_ending(root: Path) -> None:
    table(root / "HAM10000_metadata", (*_HAM, "dataset"), [(*row, "vidir_modern") for row in _ham_rows()])
    for row in _ham_rows():
        picture(root / "HAM10000_images" / f"{row[1]}.jpg")


def ham10000_kaggle(root: Path) -> None:
    """Kaggle has both part folders twice, in two spellings, and tables of pixels."""
    table(root / "HAM10000_metadata.csv", _HAM, _ham_rows())
    table(root / "hmnist_8_8_RGB.csv", ("pixel0000", "label"), [(1, 0)])
    for k, row in enumerate(_ham_rows()):
        first = root / f"HAM10000_images_part_{1 + k % 2}" / f"{row[1]}.jpg"
        picture(first)
        again = root / f"ham10000_images_part_{1 + k % 2}" / first.name
        again.parent.mkdir(exist_ok=True)
        again.write_bytes(first.read_bytes())


def ham10000_merged(root: Path) -> None:
    table(root / "HAM10000_metadata.csv", _HAM, _ham_rows())
    for row in _ham_rows():
        picture(root / "all_images" / f"{row[1]}.jpg")


def ham10000_class_folders(root: Path) -> None:
    for row in _ham_rows():
        picture(root / row[2] / f"{row[1]}.jpg")


def ham10000_class_folders_and_list(root: Path) -> None:
    ham10000_class_folders(root)
    table(root / "HAM10000_metadata.csv", _HAM, _ham_rows())


def bcn20000(root: Path) -> None:
    header = ("bcn_filename", "age_approx", "anatom_site_general", "diagnosis", "lesion_id", "capture_date", "sex",
              "split")  # fmt: skip
    for part in ("train", "test"):
        names = ("NV", "MEL", "BCC", "BKL", "AK", "SCC", "DF", "VASC") if part == "train" else ("", "")
        rows = [
            (f"BCN_{len(part)}{k:06d}.jpg", 55.0, "anterior torso", name, f"BCN_L{k}", "2012-05-16", "male", part)
            for k, name in enumerate(names)
        ]
        table(root / f"bcn_20k_{part}.csv", header, rows)
        for row in rows:
            picture(root / f"BCN_20k_{part}" / f"bcn_20k_{part}" / row[0])


def ph2(root: Path) -> None:
    lines = ["|| Name || Histological Diagnosis || Clinical Diagnosis || Asymmetry | Pigment Network || Colors ||"]
    for k, code in enumerate((0, 1, 2, 0)):
        name = f"IMD{k:03d}"
        lines.append(f"|| {name} ||    ||      {code} ||       0 |     T   || 1  2 ||")
        folder = root / "PH2 Dataset images" / name
        picture(folder / f"{name}_Dermoscopic_Image" / f"{name}.bmp")
        mask(folder / f"{name}_lesion" / f"{name}_lesion.bmp")
        mask(folder / f"{name}_roi" / f"{name}_R1_Label3.bmp")
    (root / "PH2_dataset.txt").write_text("\n".join([*lines, "", "Legends:", "Clinical Diagnosis: 0 Common Nevus"]))


def ph2_excel(root: Path) -> None:
    """The same list as a sheet: twelve lines of title and legends, then crosses in a column for each diagnosis."""
    import openpyxl

    ph2(root)
    (root / "PH2_dataset.txt").unlink()
    book = openpyxl.Workbook()
    sheet = book.active
    for line in ("PH2 database", *[None] * 9, "Asymmetry: 0 - fully symmetric", None):
        sheet.append([line])
    sheet.append(["Image Name", "Histological Diagnosis", "Common Nevus", "Atypical Nevus", "Melanoma",
                  "Asymmetry\n(0/1/2)", "White", "Red"])  # fmt: skip
    for k, column in enumerate((2, 3, 4, 2)):
        sheet.append([f"IMD{k:03d}", None, *("X" if place == column else None for place in (2, 3, 4)), 0, None, "X"])
    book.save(root / "PH2_dataset.xlsx")


def ph2_both_lists(root: Path) -> None:
    """As published: the text and the sheet say the same."""
    ph2_excel(root)
    sheet = (root / "PH2_dataset.xlsx").read_bytes()
    shutil.rmtree(root / "PH2 Dataset images")
    ph2(root)
    (root / "PH2_dataset.xlsx").write_bytes(sheet)


def derm7pt(root: Path) -> None:
    names = ("clark nevus", "melanoma (less than 0.76 mm)", "seborrheic keratosis", "basal cell carcinoma",
             "miscellaneous", "melanoma metastasis")  # fmt: skip
    rows = [
        (k, name, 3, "atypical", "elevated", "back", "female", "excision", f"NEL/Nel{k:03d}.jpg", f"NEL/Npl{k:03d}.jpg")
        for k, name in enumerate(names)
    ]
    header = ("case_num", "diagnosis", "seven_point_score", "pigment_network", "elevation", "location", "sex",
              "management", "clinic", "derm")  # fmt: skip
    table(root / "meta" / "meta.csv", header, rows)
    for name, of in (("train", (0, 1, 3)), ("valid", (2, 4)), ("test", (5,))):
        table(root / "meta" / f"{name}_indexes.csv", ("", "indexes"), [(k, row) for k, row in enumerate(of)])
    for row in rows:
        picture(root / "images" / row[8])
        picture(root / "images" / row[9])


def pad_ufes_20(root: Path) -> None:
    header = ("patient_id", "lesion_id", "smoke", "age", "gender", "fitspatrick", "region", "diameter_1", "diagnostic",
              "itch", "img_id", "biopsed")  # fmt: skip
    rows = [
        (f"PAT_{k // 2}", k, "False", 60, "FEMALE", 3.0 if k else "", "NECK", 6.0, name, "True",
         f"PAT_{k}_{k}_{k}.png", "True")
        for k, name in enumerate(("BCC", "ACK", "NEV", "SEK", "SCC", "MEL"))
    ]  # fmt: skip
    table(root / "metadata.csv", header, rows)
    for k, row in enumerate(rows):
        part = f"imgs_part_{1 + k % 3}"
        picture(root / "images" / part / part / row[10])


def fitzpatrick17k(root: Path) -> None:
    said = (("melanoma", "malignant", 2), ("psoriasis", "non-neoplastic", 5), ("seborrheic keratosis", "benign", -1),
            ("mycosis fungoides", "malignant", 6), ("dermatofibroma", "benign", 3))  # fmt: skip
    rows = [
        (f"{k:032x}", tone, tone, name, f"{part} epidermal", part, "", "https://example.org/1", "a")
        for k, (name, part, tone) in enumerate(said)
    ]
    header = ("md5hash", "fitzpatrick_scale", "fitzpatrick_centaur", "label", "nine_partition_label",
              "three_partition_label", "qc", "url", "url_alphanum")  # fmt: skip
    table(root / "fitzpatrick17k.csv", header, rows)
    for row in rows[:-1]:  # the last address is dead
        picture(root / "data" / "finalfitz17k" / f"{row[0]}.jpg")


def ddi(root: Path) -> None:
    said = (("melanoma-in-situ", True, 12), ("melanocytic-nevi", False, 56), ("folliculitis", False, 34),
            ("mycosis-fungoides", True, 56), ("seborrheic-keratosis", False, 34))  # fmt: skip
    rows = [(k, k + 1, f"{k + 1:06d}.png", tone, bad, name) for k, (name, bad, tone) in enumerate(said)]
    table(root / "ddi_metadata.csv", ("", "DDI_ID", "DDI_file", "skin_tone", "malignant", "disease"), rows)
    for row in rows:
        picture(root / "images" / row[2])


def scin(root: Path) -> None:
    cases, labels = [], []
    said = ("{'Eczema': 0.67, 'Psoriasis': 0.33}", "{'Basal Cell Carcinoma': 1.0}", "{'Melanocytic Nevus': 0.8}", "{}")
    for k, weights in enumerate(said):
        paths = [f"dataset/images/{k}{n}.png" for n in range(1 + k % 2)]
        for path in paths:
            picture(root / path)
        more = [*paths, "", ""][:3]
        cases.append((f"case{k}", "SCIN", "1.0.0", 2023, "AGE_30_TO_39", "FEMALE", "FST3", "True", *more))
        labels.append((f"case{k}", "['x']", weights, "FST4", 5, 4))
    header = ("case_id", "source", "release", "year", "age_group", "sex_at_birth", "fitzpatrick_skin_type",
              "textures_bumpy", "image_1_path", "image_2_path", "image_3_path")  # fmt: skip
    table(root / "dataset" / "scin_cases.csv", header, cases)
    header = ("case_id", "dermatologist_skin_condition_on_label_name", "weighted_skin_condition_label",
              "dermatologist_fitzpatrick_skin_type_label_1", "monk_skin_tone_label_india",
              "monk_skin_tone_label_us")  # fmt: skip
    table(root / "dataset" / "scin_labels.csv", header, labels)


def rfmid(root: Path) -> None:
    parts = (("Training_Set", "Training", "Training"), ("Evaluation_Set", "Validation", "Validation"),
             ("Test_Set", "Test", "Testing"))  # fmt: skip
    for folder, inner, name in parts:
        rows = [
            (k + 1, int(k > 0), int(k == 1), int(k == 2), 0, 0, int(k == 2), 0, 0, 0, int(k == 3)) for k in range(4)
        ]
        header = ("ID", "Disease_Risk", "DR", "ARMD", "MH", "DN", "MYA", "BRVO", "CRVO", "CSR", "ODC")
        table(root / folder / folder / f"RFMiD_{name}_Labels.csv", header, rows)
        for row in rows:
            picture(root / folder / folder / inner / f"{row[0]}.png")


def aptos2019(root: Path) -> None:
    rows = [(f"{k:012x}", k) for k in range(5)]
    table(root / "train.csv", ("id_code", "diagnosis"), rows)
    table(root / "test.csv", ("id_code",), [("f" * 12,)])
    table(root / "sample_submission.csv", ("id_code", "diagnosis"), [("f" * 12, 0)])
    for name, _ in rows:
        picture(root / "train_images" / f"{name}.png")
    picture(root / "test_images" / f"{'f' * 12}.png")


def eyepacs(root: Path) -> None:
    for part, name in (("train", "trainLabels.csv"), ("test", "retinopathy_solution.csv")):
        eyes = [(patient, eye) for patient in (1, 4) for eye in ("left", "right")]
        rows = [(f"{patient}{len(part)}_{eye}", k + (k > 2)) for k, (patient, eye) in enumerate(eyes)]
        more = (("Usage",), ("Public",)) if part == "test" else ((), ())
        table(root / name, ("image", "level", *more[0]), [(*row, *more[1]) for row in rows])
        for image, _ in rows:
            picture(root / part / f"{image}.jpeg")


def messidor2(root: Path) -> None:
    names = ("20051020_43808_0100_PP.png", "IM001.jpg", "IM002.jpg")
    rows = list(zip(names, (0, 2, ""), (0, 0, ""), (1, 1, 0), strict=True))
    header = ("image_id", "adjudicated_dr_grade", "adjudicated_dme", "adjudicated_gradable")
    table(root / "messidor_data.csv", header, rows)
    for row in rows:
        picture(root / "IMAGES" / row[0].replace(".jpg", ".JPG"))


def brset(root: Path) -> None:
    header = ("image_id", "patient_id", "camera", "patient_age", "comorbidities", "patient_sex", "exam_eye", "DR_SDRG",
              "DR_ICDR", "focus", "diabetic_retinopathy", "macular_edema", "scar", "amd", "vascular_occlusion",
              "hypertensive_retinopathy", "drusen", "myopic_fundus", "increased_cup_disc", "other")  # fmt: skip
    rows = [
        (f"img{k:05d}", k // 2, "Canon CR", 48.0, "", 1 + k % 2, 1 + k % 2, 0, 0, 1, int(k == 1), 0, 0, int(k == 2), 0,
         0, 0, 0, int(k == 3), 0)
        for k in range(4)
    ]  # fmt: skip
    table(root / "labels.csv", header, rows)
    for row in rows:
        picture(root / "fundus_photos" / f"{row[0]}.jpg")


def idrid(root: Path) -> None:
    for letter, part, word in (("a", "Training", "Training"), ("b", "Testing", "Testing")):
        rows = [(f"IDRiD_{k:03d}", k % 5, k % 3, "", "") for k in range(3)]
        truth = root / "B. Disease Grading" / "2. Groundtruths"
        header = ("Image name", "Retinopathy grade", "Risk of macular edema ", "", "")
        table(truth / f"{letter}. IDRiD_Disease Grading_{word} Labels.csv", header, rows)
        for row in rows:
            picture(root / "B. Disease Grading" / "1. Original Images" / f"{letter}. {part} Set" / f"{row[0]}.jpg")


_ODIR = ("ID", "Patient Age", "Patient Sex", "Left-Fundus", "Right-Fundus", "Left-Diagnostic Keywords",
         "Right-Diagnostic Keywords", *"NDGCAHMO")  # fmt: skip


def _odir_rows() -> list[tuple]:
    said = (("normal fundus", "moderate non proliferative retinopathy", "D"), ("cataract", "normal fundus", "C"),
            ("normal fundus", "normal fundus", "N"), ("glaucoma", "glaucoma，drusen", "GO"))  # fmt: skip
    return [
        (k, 60, "Female", f"{k}_left.jpg", f"{k}_right.jpg", left, right, *(int(c in there) for c in "NDGCAHMO"))
        for k, (left, right, there) in enumerate(said)
    ]


def odir5k(root: Path) -> None:
    import openpyxl

    book = openpyxl.Workbook()
    for row in (_ODIR, *_odir_rows()):
        book.active.append(list(row))
    (root / "ODIR-5K").mkdir(parents=True)
    book.save(root / "ODIR-5K" / "data.xlsx")
    for row in _odir_rows():
        for name in row[3:5]:
            picture(root / "ODIR-5K" / "Training Images" / name)
    picture(root / "ODIR-5K" / "Testing Images" / "937_left.jpg")


def odir5k_full_df(root: Path) -> None:
    header = (*_ODIR, "filepath", "labels", "target", "filename")
    rows = [
        (*row, f"../input/{name}", "['N']", "[1, 0, 0, 0, 0, 0, 0, 0]", name)
        for row in _odir_rows()
        for name in row[3:5]
    ]
    table(root / "full_df.csv", header, rows)
    for row in _odir_rows():
        for name in row[3:5]:
            picture(root / "preprocessed_images" / name)
            picture(root / "ODIR-5K" / "ODIR-5K" / "Training Images" / name)
    picture(root / "ODIR-5K" / "ODIR-5K" / "Testing Images" / "937_left.jpg")


def vietai(root: Path) -> None:
    header = ("filename", "opacity", "diabetic retinopathy", "glaucoma", "macular edema", "macular degeneration",
              "retinal vascular occlusion", "normal")  # fmt: skip
    names = [f"{k:012x}.jpg" for k in range(4)]
    rows = [(name, *(int(k == n) for n in (5, 0, 1, 6, 2, 7, 3))) for k, name in enumerate(names)]
    table(root / "train.csv", header, rows)
    for name in names:
        picture(root / "train" / name)


def dr_class_folders(root: Path) -> None:
    for name in ("No_DR", "Mild", "Moderate", "Severe", "Proliferate_DR"):
        picture(root / "colored_images" / name / f"{name.lower()}.png")


def finding_list(root: Path) -> None:
    names = ("glaucoma", "normal", "diabetic_retinopathy")
    table(root / "labels.csv", ("filename", "label"), [(f"{k}.jpg", name) for k, name in enumerate(names)])
    for k in range(3):
        picture(root / "images" / f"{k}.jpg")


Writer = Callable[[Path], None]
SKIN: dict[str, Writer] = {
    f.__name__: f
    for f in (isic2016, isic2016_part3b, isic2016_all_parts, isic2017, isic2018_task3, isic2019, isic2020,
              isic2020_kaggle, isic_archive, ham10000, ham10000_without_ending, ham10000_kaggle, ham10000_merged,
              ham10000_class_folders, ham10000_class_folders_and_list, bcn20000, ph2, ph2_excel, ph2_both_lists,
              derm7pt, pad_ufes_20, fitzpatrick17k, ddi, scin)
}  # fmt: skip
RETINA: dict[str, Writer] = {
    f.__name__: f
    for f in (rfmid, aptos2019, eyepacs, messidor2, brset, idrid, odir5k, odir5k_full_df, vietai, dr_class_folders,
              finding_list)
}  # fmt: skip


# one box of a "papules" from 4, 6 to 12, 16 in the picture of 24 pixels of each file, in each tool's own layout
BOX = (4.0, 6.0, 12.0, 16.0)


def _voc(path: Path, picture_name: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f"<annotation><folder>VOC2007</folder><filename>{picture_name}</filename><size><width>24</width>"
        "<height>24</height><depth>3</depth></size><object><name>papules</name><bndbox><xmin>4</xmin><ymin>6</ymin>"
        "<xmax>12</xmax><ymax>16</ymax></bndbox></object></annotation>"
    )


def _coco(path: Path, names: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [{"id": k, "file_name": name, "width": 24, "height": 24} for k, name in enumerate(names)]
    boxes = [{"id": k, "image_id": k, "category_id": 1, "bbox": [4, 6, 8, 10]} for k in range(len(names))]
    categories = [{"id": 0, "name": "acne", "supercategory": "none"}, {"id": 1, "name": "papules"}]
    path.write_text(json.dumps({"images": images, "annotations": boxes, "categories": categories}))


def _yolo(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"1 {8 / 24:.6f} {11 / 24:.6f} {8 / 24:.6f} {10 / 24:.6f}\n")


def vocdevkit(root: Path) -> None:
    home = root / "VOCdevkit" / "VOC2007"
    (home / "ImageSets" / "Main").mkdir(parents=True)
    for split in ("train", "val", "test"):
        picture(home / "JPEGImages" / f"{split}_1.jpg")
        _voc(home / "Annotations" / f"{split}_1.xml", f"{split}_1.jpg")
        (home / "ImageSets" / "Main" / f"{split}.txt").write_text(f"{split}_1\n")
    (home / "ImageSets" / "Main" / "trainval.txt").write_text("train_1\nval_1\n")


def coco(root: Path) -> None:
    """COCO's own folders: the same names in train2017 and val2017 are other pictures."""
    for split in ("train2017", "val2017", "test2017"):
        picture(root / split / "000000000001.jpg")
        _coco(root / "annotations" / f"instances_{split}.json", ["000000000001.jpg"])


def coco_images_together(root: Path) -> None:
    for split in ("train", "val", "test"):
        picture(root / "images" / f"{split}_1.jpg")
        _coco(root / "annotations" / f"{split}.json", [f"{split}_1.jpg"])


def roboflow_coco(root: Path) -> None:
    for split in ("train", "valid", "test"):
        picture(root / split / f"{split}_1.jpg")
        _coco(root / split / "_annotations.coco.json", [f"{split}_1.jpg"])
    (root / "README.roboflow.txt").write_text("exported")


def roboflow_voc(root: Path) -> None:
    for split in ("train", "valid", "test"):
        picture(root / split / f"{split}_1.jpg")
        _voc(root / split / f"{split}_1.xml", f"{split}_1.jpg")


def roboflow_yolo(root: Path) -> None:
    for split in ("train", "valid", "test"):
        picture(root / split / "images" / f"{split}_1.jpg")
        _yolo(root / split / "labels" / f"{split}_1.txt")
    (root / "data.yaml").write_text(
        "train: ../train/images\nval: ../valid/images\nnc: 2\nnames: ['nodules', 'papules']\n"
    )
    (root / "README.dataset.txt").write_text("exported")


def yolo(root: Path) -> None:
    for split in ("train", "val", "test"):
        picture(root / "images" / split / f"{split}_1.jpg")
        _yolo(root / "labels" / split / f"{split}_1.txt")
    (root / "data.yaml").write_text("path: .\nnames:\n  0: nodules\n  1: papules\n")


def yolo_beside(root: Path) -> None:
    for split in ("train", "val", "test"):
        picture(root / split / f"{split}_1.jpg")
        _yolo(root / split / f"{split}_1.txt")
    (root / "classes.txt").write_text("nodules\npapules\n")


def labelme(root: Path) -> None:
    for split in ("train", "val", "test"):
        picture(root / split / f"{split}_1.jpg")
        shape = {"label": "papules", "points": [[12.0, 16.0], [4.0, 6.0]], "shape_type": "rectangle"}
        windows = PureWindowsPath("..", "photos", f"{split}_1.jpg")
        said = {"shapes": [shape], "imagePath": str(windows), "imageData": None, "imageHeight": 24, "imageWidth": 24}
        (root / split / f"{split}_1.json").write_text(json.dumps(said))


def cvat(root: Path) -> None:
    for split in ("train", "val", "test"):
        picture(root / split / "images" / f"{split}_1.jpg")
        (root / split / "annotations.xml").write_text(
            f'<annotations><version>1.1</version><meta/><image id="0" name="{split}_1.jpg" width="24" height="24">'
            '<box label="papules" xtl="4" ytl="6" xbr="12" ybr="16" occluded="0"/></image></annotations>'
        )


BOXES: dict[str, Writer] = {
    f.__name__: f
    for f in (vocdevkit, coco, coco_images_together, roboflow_coco, roboflow_voc, roboflow_yolo, yolo, yolo_beside,
              labelme, cvat)
}  # fmt: skip
