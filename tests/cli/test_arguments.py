"""Every verb with every kind of wrong argument: one sentence that says what to do, exit status 2, no stack trace."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # computes for long

LC, LS, MS, RF = "lesion_classification", "lesion_segmentation", "malignancy_screening", "retinal_findings"
PC = "persistent_conditions"

# words in capitals stand for a path: IMAGE, EMPTY (a folder), FILE (no image), DATA (a prepared dataset), M:<model>
WRONG = [
    ("", "Usage: derm"),
    ("predikt", "No such command 'predikt'"),
    ("predict", "Missing argument"),
    (f"predict {LC} IMAGE --modle x", "No such option: --modle"),
    ("predict lesion_clasification IMAGE", "no task 'lesion_clasification' (did you mean 'lesion_classification'?)"),
    (f"predict {LC} IMAGE", "has no champion: train a model"),
    (f"predict {LC} IMAGE --model nowhere", "nowhere/bundle: no bundle.json"),
    (f"predict {LC} IMAGE --model FILE", "no bundle.json; train one with `derm fit`"),
    (f"predict {LC} IMAGE --model M:{RF}", f"is a model of {RF}, not of {LC}"),
    (f"predict {LC} IMAGE --model M:autoencoder", "is an autoencoder, which predicts nothing"),
    (f"predict {LC} EMPTY --model M:{LC}", "there are no images in this folder"),
    (f"predict {LC} nowhere.jpg --model M:{LC}", "nowhere.jpg: there is no such file"),
    (f"predict {LC} FILE --model M:{LC}", "1 of 1 images could not be read"),
    (f"predict {LC} IMAGE --model M:{LC} --point balancd", "no operating point 'balancd' (did you mean 'balanced'?)"),
    (f"predict {LS} IMAGE --model M:{LS} --point balanced", "no operating point 'balanced'; the model has none"),
    (f"predict {LC} IMAGE --model M:{LC} --json --csv", "--json and --csv exclude each other"),
    (f"predict {LC} IMAGE --model M:{LC} --age old", "--age old: write years, 0 to 120"),
    ("predict lesion_segmentation IMAGE --age 40", "--age: lesion_segmentation is not asked with age; leave it out"),
    ("predict retinal_findings IMAGE --facts EMPTY", "--facts: retinal_findings is not asked with age or sex"),
    (f"predict {LC} IMAGE --model M:{LC} --sex x", "--sex x: write male or female"),
    (f"predict {LC} IMAGE --model M:{LC} --facts nowhere.csv", "nowhere.csv: cannot be read (No such file"),
    (f"predict {LC} IMAGE --model M:{LC} --facts EMPTY", "is a folder, not a file"),
    (f"predict {LC} IMAGE --model M:{LC} --fellow IMAGE", f"--fellow: {LC} is asked about one"),
    (f"predict {LS} IMAGE --model M:{LS} --into FILE", "cannot be written: a part of this path is a file"),
    (f"predict {PC} IMAGE", "use `derm match`"),
    (f"explain {LC} IMAGE --model M:{LC} --label melanom", "no label 'melanom' (did you mean 'melanoma'?)"),
    (f"explain {LS} IMAGE --model M:{LS} --label nevus", "no label 'nevus'; the model knows lesion"),
    (f"explain {LC} IMAGE --model M:{LC} --into FILE", "cannot be written: a part of this path is a file"),
    (f"explain {LC} EMPTY --model M:{LC}", "there are no images in this folder"),
    (f"explain {LC} IMAGE --model M:{MS}", f"is a model of {MS}, not of {LC}"),
    (f"explain {PC} IMAGE", "use `derm match` with --picture"),
    (f"similar {LC} IMAGE --model M:{LC} --k 0", "greater than or equal to 1"),
    (f"similar {LC} IMAGE --model M:{LC} --data EMPTY", "is not a prepared dataset"),
    (f"similar {LS} IMAGE", "has no index of similar images"),
    (f"evaluate {LC}", "Missing argument"),
    (
        f"evaluate {LC} M:{LC} --split tests",
        "no split 'tests' (did you mean 'test'?); there are train",
    ),
    (f"evaluate {LC} nowhere --data DATA", "nowhere/bundle: no bundle.json"),
    (f"evaluate {LC} M:{MS} --data DATA", f"is a model of {MS}, not of {LC}"),
    (f"evaluate {LC} M:autoencoder --data DATA", "is an autoencoder"),
    (f"evaluate {LC} M:{LC} --data FILE", "is not a prepared dataset"),
    (f"evaluate {RF} M:{RF} --data DATA", f"is a dataset of {LC}, not of {RF}"),
    (f"compare {LC} M:{LC}", "has no evaluation on test: run `derm evaluate`"),
    (f"compare {LC} FILE nowhere", "has no evaluation on test"),
    (f"compare {LC} M:{LC} M:{LC} --split x", "no split 'x'"),
    (f"make {LC} heatmap M:{LC}", "no artifact 'heatmap' (did you mean 'heatmaps'?)"),
    (f"make {LC} heatmaps M:{RF} --data DATA", f"is a model of {RF}, not of {LC}"),
    (f"fit {LC} --data DATA --recipe strog", "no recipe 'strog' (did you mean 'strong'?)"),
    (f"fit {LC} --data DATA --set epochs", "--set epochs: write NAME=VALUE"),
    (f"fit {LC} --data DATA --set epochs=many", "optimiser.epochs: write a whole number, not 'many'"),
    (
        f"fit {LC} --data DATA --set optimiser.epochs=-3",
        "optimiser.epochs: write 1 or more, not -3",
    ),
    (f"fit {LC} --data DATA --set epoch=3", "there is no setting 'epoch' (did you mean 'optimiser.epochs'?)"),
    (f"fit {LC} --data DATA --set optimizer.epochs=3", "'optimizer.epochs' (did you mean 'optimiser.epochs'?)"),
    (f"fit {LC} --data DATA --set epochs=3 --set optimiser.epochs=4", "optimiser.epochs is given twice"),
    (f"fit {LC} --data DATA --set focal_gamma=2", "focal_gamma=2 cannot be had: the setting was removed"),
    (f"fit {LC} --data DATA --set epochs=[1", "--set epochs=[1: '[1' cannot be read"),
    (
        f"fit {LC} --data DATA --recipe drawn --set backbone=resnet19",
        "(did you mean 'resnet18'?); known are",
    ),
    (f"fit {LC} --data DATA --recipe drawn --set loss=asymmetric", "loss=asymmetric is for independent labels"),
    (f"fit {LC} --data DATA --recipe drawn --set pretrained=FILE", "is no .safetensors file or is damaged"),
    (f"fit {LC} --data DATA --recipe drawn --set pretrained=nowhere", "there is no such file; use 'auto'"),
    (f"fit {LC} --data DATA --recipe drawn --set pseudo_labels=nowhere.csv", "make the table with `derm pseudo-label`"),
    (
        f"fit {LC} --data DATA --recipe distilled",
        "its teacher: name one with --set teacher=out/lesion_classification/…",
    ),
    (f"fit {LC} --data DATA --set teacher=nowhere", "teacher=nowhere: there is no trained model; give the path of"),
    (f"fit {LC} --data DATA --out M:{LC}", "holds a model of another recipe or of other data"),
    (f"fit {MS} --data DATA", f"is a dataset of {LC}, not of {MS}"),
    (f"fit {LC} --data EMPTY", "is not a prepared dataset"),
    (f"autoencode {LC} --data DATA --recipe weak", "no autoencoder 'weak'; there are strong_autoencoder"),
    (f"autoencode {LC} --data DATA --set side=100", "side: write a multiple of 32, not 100"),
    (f"autoencode {LC} --data DATA --against nowhere", "nowhere/bundle: no bundle.json"),
    (f"pseudo-label {LC} nowhere --data DATA", "nowhere/bundle: no bundle.json"),
    (f"pseudo-label {LS} M:{LS}", "its model has no embedding"),
    (f"match {LC} IMAGE IMAGE", "use `derm predict`"),
    (f"match {PC} IMAGE IMAGE --model M:{LC}", f"is a model of {LC}, not of {PC}"),
    (f"match {PC} IMAGE IMAGE --model nowhere --picture x.jpg", "choose a name that ends in .png"),
    (f"draw {LC} --n 0", "greater than or equal to 1"),
    (f"draw {LC} --into FILE", "is not an empty folder"),
    ("fetch isic1999", "no data set 'isic1999'"),
    ("fetch list eyepac", "no data set 'eyepac' (did you mean 'eyepacs'?)"),
    ("fetch isic2017 ham10000", "'ham10000' is one name too many"),
    (f"prepare {LC} --raw nowhere", "nowhere: there is no such folder"),
    (f"prepare {LC} --raw EMPTY", "the layout is not recognised"),
    (f"prepare {LC} --params nowhere.yaml", "nowhere.yaml cannot be read"),
    (f"prepare {LC} --params FILE", "is not readable YAML"),
    (f"prepare {LC} --out .", "holds other files (dataset.json is not among them), which would be lost"),
    (f"demo {LC}", "has no demo"),
    (f"demo {PC} --size 7", "at least 84 pixels"),
    (f"promote {LC} nowhere", "nowhere/bundle: no bundle.json"),
    (f"rollback {LC}", "say why the champion is withdrawn"),
]


def written(folder: Path) -> list[Path]:
    """All files but those of data versions: a training keeps the data it begins with, whatever becomes of it."""
    return sorted(p for p in folder.rglob("*") if p.is_file() and "versions" not in p.relative_to(folder).parts)


@pytest.mark.parametrize(("arguments", "sentence"), WRONG, ids=[words for words, _ in WRONG])
def test_a_wrong_argument_gets_a_sentence(derm, models, images, drawn_dataset, tmp_path, arguments, sentence):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.txt").write_bytes(b"\xff\xfe no image, no YAML, no weights")
    paths = {
        "IMAGE": images / "2_spot.png", "EMPTY": tmp_path / "empty", "FILE": tmp_path / "file.txt",
        "DATA": drawn_dataset.path, **{f"M:{name}": folder for name, folder in models.items()},
    }  # fmt: skip
    words = [
        f"{name}{equals}{paths.get(value, value)}"
        for name, equals, value in (word.rpartition("=") for word in arguments.split())
    ]
    before = written(tmp_path)
    code, out, err = derm(*words)
    assert code == 2
    assert sentence in " ".join((out + err).split())
    assert "Traceback" not in err
    assert not arguments or err.strip().splitlines()[-1].startswith("derm: ")
    assert written(tmp_path) == before, "something was written or lost"


def test_a_file_in_the_way_of_a_dataset_is_not_deleted(derm, drawn_raw, tmp_path):
    """`--out` named an image by mistake, and a folder stood in its place."""
    kept = Path(shutil.copy(next(drawn_raw.rglob("*.jpg")), tmp_path))
    code, _, err = derm("prepare", LC, "--raw", drawn_raw, "--out", kept)
    assert code == 2
    assert "cannot be written: a part of this path is a file" in err
    assert kept.is_file()


def test_explanations_go_where_results_go(derm, models, images, tmp_path, monkeypatch):
    monkeypatch.setenv("DERM_OUT", str(tmp_path / "elsewhere"))
    code, out, err = derm("explain", LC, images / "2_spot.png", "--model", models[LC], "--label", "nevus")
    assert code == 0, err
    assert Path(out.strip()) == tmp_path / "elsewhere" / "explained" / "2_spot.explained.png"
    assert Path(out.strip()).stat().st_size > 1000
