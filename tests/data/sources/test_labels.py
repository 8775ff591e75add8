"""What a name means is said once, by the user before the publisher before the list; a name nobody knows says where."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from derm_ml.data.diagnoses import diagnoses, diagnosis_of, meant_by, normal
from derm_ml.data.sources.finding_names import FindingMap
from derm_ml.records import DataError
from derm_ml.registry import get_task
from tests.data.sources import published_sets


def read(task, root, **settings):
    return get_task(task).read(root, get_task(task).settings(**settings))


def test_no_name_means_two_diagnoses():
    """A spelling under two entries would be whichever stands last."""
    spelled = Counter(normal(n) for name, entry in diagnoses().items() for n in {name, *map(normal, entry.names)})
    assert {name: n for name, n in spelled.items() if n > 1} == {}
    assert all(covered in diagnoses() for entry in diagnoses().values() for covered in entry.covers)


@given(st.sampled_from([name for entry in diagnoses().values() for name in entry.names]), st.randoms())
def test_case_spaces_hyphens_and_underscores_do_not_matter(name, random):
    other = "".join(random.choice("_- ") if c in "_- " else random.choice((c.lower(), c.upper())) for c in name)
    assert diagnosis_of(other) == diagnosis_of(name)


def test_a_mixed_name_counts_as_the_most_serious_diagnosis_it_joins():
    """One rule for `akiec` and for any name like it: else the next mixed name is ruled on by whoever adds it."""
    known = diagnoses()
    for entry in known.values():
        if entry.covers:
            assert entry.malignant == any(known[part].malignant for part in entry.covers)


def test_the_account_says_why_actinic_keratoses_are_benign_alone_and_malignant_in_ham10000(tmp_path):
    """Two sets side by side seem to contradict each other: whoever prepares them must not find that out in a report."""
    published_sets.ham10000_merged(tmp_path / "ham")
    published_sets.isic2019(tmp_path / "isic2019")
    notes = read("malignancy_screening", tmp_path).notes
    assert [note.partition("; ")[0] for note in notes] == [
        "actinic keratosis: 2 images count as benign: a precursor that is treated, but no cancer, as PAD-UFES-20 "
        "counts it",
        "akiec: 1 images count as malignant: HAM10000 joins actinic keratoses and carcinomas in it, and a mixed name "
        "counts as the most serious diagnosis it joins",
    ]
    assert all("`malignant`, `benign` or `left_out` in params.yaml" in note for note in notes)
    # one line makes them alike, and then nothing is left to explain
    for setting in ("benign", "left_out"):
        reading = read("malignancy_screening", tmp_path, **{setting: ["actinic keratosis"]})
        assert reading.notes == ()
        ours = {s.target["malignant"] for s in reading.samples if s.named in ("akiec", "AK")}
        assert ours == ({0.0} if setting == "benign" else set())


def test_a_setting_that_names_a_part_means_the_mixed_diagnosis_too():
    assert meant_by("Actinic keratosis") == {"actinic_keratosis", "akiec"}


@pytest.mark.parametrize("names", [["mel", "bcc", "akiec"], ["melanoma", "Basal cell carcinoma", "actinic keratosis"]])
def test_malignant_names_may_be_written_out_or_not(names, tmp_path):
    """HAM10000 abbreviates and settings do not: six carcinomas must not become benign for it."""
    published_sets.ham10000_merged(tmp_path)
    reading = read("malignancy_screening", tmp_path, malignant=names)
    assert {s.named for s in reading.samples if s.target["malignant"]} == {"mel", "bcc", "akiec"}


def test_the_publisher_s_word_counts_before_the_list_and_the_user_s_before_both(tmp_path):
    """Fitzpatrick17k says that mycosis fungoides is malignant and that keratoses are not."""
    published_sets.fitzpatrick17k(tmp_path)
    by_publisher = read("malignancy_screening", tmp_path)
    assert {s.named for s in by_publisher.samples if s.target["malignant"]} == {"melanoma", "mycosis fungoides"}
    by_user = read("malignancy_screening", tmp_path, malignant=["seborrheic keratosis"], benign=["mycosis fungoides"])
    assert {s.named for s in by_user.samples if s.target["malignant"]} == {"melanoma", "seborrheic keratosis"}
    left = read("malignancy_screening", tmp_path, left_out=["psoriasis"])
    assert left.left_out["psoriasis"] == 1


def folders(root, *names):
    for k, name in enumerate(names):
        published_sets.picture(root / name / f"{k}.png")


def test_a_user_s_own_names_are_mapped_or_left_out(tmp_path):
    folders(tmp_path, "Muttermal", "bkl", "melanoma", "Warze")
    settings = {"labels": {"Muttermal": "nevus", "warze": "left_out", "bkl": None}}
    reading = read("lesion_classification", tmp_path, **settings)
    assert {s.named: s.label for s in reading.samples} == {"Muttermal": "nevus", "melanoma": "melanoma"}
    assert reading.left_out == {"Warze": 1, "bkl": 1}


def test_an_unknown_name_says_which_setting_to_write(tmp_path):
    folders(tmp_path, "melanoma", "Warze")
    with pytest.raises(DataError, match=r"Warze: unknown label 'Warze'.*`labels` in params\.yaml.*left_out"):
        read("lesion_classification", tmp_path)
    with pytest.raises(DataError, match=r"`malignant`, `benign` or `left_out` in params\.yaml"):
        read("malignancy_screening", tmp_path)


def test_a_map_to_no_label_of_the_task_is_refused(tmp_path):
    folders(tmp_path, "melanoma")
    with pytest.raises(DataError, match="the label map leads to mole; the task's labels are melanoma, nevus"):
        read("lesion_classification", tmp_path, labels={"Muttermal": "mole"})


def test_boxes_of_an_unknown_condition_can_be_left_out(tmp_path):
    published_sets.labelme(tmp_path)
    for file in tmp_path.rglob("*.json"):
        file.write_text(file.read_text().replace("papules", "rosacea"))
    with pytest.raises(DataError, match=r"unknown label 'rosacea'.*`labels` in params\.yaml"):
        read("persistent_conditions", tmp_path)
    reading = read("persistent_conditions", tmp_path, labels={"rosacea": "pimple"})
    assert {r.label for s in reading.samples for r in s.regions["first"]} == {"pimple"}


def test_findings_of_lists_and_folders():
    names = FindingMap((), {"cup": "glaucoma", "blurred": None})
    assert names.target("No DR") == {"diabetic_retinopathy": 0.0}
    assert names.target("Proliferate_DR") == {"diabetic_retinopathy": 1.0, "normal": 0.0}
    assert names.target("AMD") == {"macular_degeneration": 1.0}
    assert names.target("Cup") == {"glaucoma": 1.0}
    assert names.target("blurred") is None
    assert names.target("epiretinal membrane") == {"epiretinal_membrane": 1.0}
    with pytest.raises(DataError, match="cannot name a finding"):
        names.target("2nd")
