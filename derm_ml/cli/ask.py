"""A model asked about images from a terminal: predict, explain, find similar ones."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.table import Table

from derm_ml import RESEARCH_USE, DermError
from derm_ml.asking.answers import FOOT
from derm_ml.bundles.operating import asked_columns
from derm_ml.cli.arguments import (
    Model,
    Options,
    PreparedData,
    Prevalence,
    TaskName,
    asked_by,
    asked_images,
    count_files,
    dataset_of,
    fellow_of,
    options_from_flags,
    predictor_of,
    prevalence_option,
    refuse_useless,
    task_of,
    wished,
)
from derm_ml.cli.terminal import Lines, notes, print_line, print_result, print_table, progress_bar, write_png
from derm_ml.model_folder import ModelFolder, bundle_named
from derm_ml.places import installation
from derm_ml.promotion.policy import stated_prevalence
from derm_ml.sentences import WrongValue, unknown
from derm_ml.tables import csv_lines
from derm_ml.task import Task

if TYPE_CHECKING:
    from derm_ml.data.dataset import Dataset

ABSTAINED_BECAUSE = "abstained_because"
Images = Annotated[list[Path], typer.Argument(help="images, or folders of images", show_default=False)]
Age = Annotated[str, typer.Option(help="age in years, applied to all images given")]
Sex = Annotated[str, typer.Option(help="male or female, applied to all images given")]
Facts = Annotated[
    Path | None,
    typer.Option(
        help="a CSV of age and sex by image: image_id (or filename), age, sex. ISIC metadata files work as they are"
    ),
]

Fellow = Annotated[Path | None, typer.Option(help="retinal_findings: photo of the fellow eye (single image only)")]


def predict(
    task_name: TaskName,
    images: Images,
    model: Model = None,
    point: Annotated[str, typer.Option(help="decide at this operating point; default: the task's")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object a line")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="a CSV table")] = False,
    prevalence: Prevalence = "",
    into: Annotated[
        Path | None, typer.Option(help="folder for masks and overlays; default: out/TASK/predicted")
    ] = None,
    fellow: Fellow = None,
    age: Age = "",
    sex: Sex = "",
    facts: Facts = None,
    option: Options = [],  # noqa: B006
) -> None:
    """Predict images. Prints a table, JSON lines (--json) or CSV (--csv). Unreadable files are listed.

    Where the model abstains (an image of something else, blurred, blank …) there is no decision; --csv holds the
    probabilities even then.

    Answers are written as they come. A task that draws (masks, overlays) writes its drawings into a folder; the answer
    says where.
    """
    task = task_of(task_name)
    asked_by(task, "predict")
    if as_json and as_csv:
        raise DermError("--json and --csv exclude each other: choose one")
    refuse_useless(task, age, sex, facts)
    options = options_from_flags(age, sex, facts, images, point=point)
    with_fellow = fellow_of(task, images, fellow)
    predictor = predictor_of(task, model)
    option = [*option, *prevalence_option(task, prevalence)]
    # a table of answers is also what sets are scored with: abstaining has a column of its own there
    wishes = (task.asking.whole if as_csv else {}) | stated_prevalence(task, predictor.card)
    wishes |= wished(task, option, predictor.card)
    if point and point not in predictor.card.point_names:
        raise WrongValue(unknown("operating point", point, predictor.card.point_names, "the model has"))
    drawings = into or installation().predicted(task.name)
    done = Lines("predict")  # no bar: the answers are written between
    step = done.add_task("", total=count_files(images))
    columns = ["file", *task.columns(predictor.card), *asked_columns(predictor.card, wishes)]
    with _printed(task, columns, "json" if as_json else "csv" if as_csv else "table") as tell:
        for path, stem, image in _readable(images, lambda: done.advance(step)):
            said = task.answer(predictor, with_fellow(image), options(path) | wishes)
            answer = {"file": str(path), **said}
            tell(answer | _drawn(task, image, answer, drawings / stem))


def explain(
    task_name: TaskName,
    images: Images,
    model: Model = None,
    label: Annotated[str, typer.Option(help="explain this label; default: the most likely")] = "",
    into: Annotated[Path | None, typer.Option(help="folder for the overlays; default: out/explained")] = None,
    fellow: Fellow = None,
    age: Age = "",
    sex: Sex = "",
    facts: Facts = None,
    option: Options = [],  # noqa: B006
) -> None:
    """Overlay a Grad-CAM heatmap: the regions that influenced the prediction most."""
    task = task_of(task_name)
    asked_by(task, "predict", " with --picture")
    predictor = predictor_of(task, model)
    wishes = wished(task, option, predictor.card)
    refuse_useless(task, age, sex, facts)
    options = options_from_flags(age, sex, facts, images, label=label)
    if label and label not in predictor.labels:
        raise WrongValue(unknown("label", label, predictor.labels, "the model knows"))
    with_fellow = fellow_of(task, images, fellow)
    folder = into or installation().explained
    for path, stem, image in _readable(images):
        target = folder / f"{stem}.explained.png"
        write_png(target, task.explain(predictor, with_fellow(image), options(path) | wishes))
        print_result(target)


def similar(
    task_name: TaskName,
    images: Images,
    model: Model = None,
    k: Annotated[int, typer.Option(min=1, max=50, help="how many neighbours")] = 5,
    patient: Annotated[str, typer.Option(help="leave this patient's images out")] = "",
    licence: Annotated[str, typer.Option(help="only images under these licences, separated by commas")] = "",
    data: PreparedData = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object a line")] = False,
) -> None:
    """Find the known images most similar to each image. The index is built once per model."""
    from derm_ml.embeddings.made import similar_of
    from derm_ml.embeddings.similar import names_of, similar_answer
    from derm_ml.neutral_ids import installation_ids

    task = task_of(task_name)
    if not task.has_embedding:
        raise DermError(f"{task.name} has no index of similar images: its model has no embedding")
    predictor = predictor_of(task, model)
    made_later = installation().again(task.name, predictor.bundle.version)  # a champion lies in the registry
    folder = ModelFolder.holding(bundle_named(model)) if model else ModelFolder(made_later)
    with progress_bar("index") as bar:
        steps: list[Any] = []

        def dataset() -> Dataset:
            found = dataset_of(task, data)
            steps.append(bar.add_task("embed", total=len(found.manifest)))
            return found

        index = similar_of(predictor, dataset, folder, lambda done: bar.advance(steps[0], done))
    table = Table(
        "image", "neighbour", "label", "similarity", "split", "licence", title=task.title, caption=RESEARCH_USE
    )
    options = {"k": str(k), "patient": patient, "licence": licence}
    ids, names = installation_ids(), names_of(index)
    try:
        for path, _, image in _readable(images):
            found = similar_answer(index, predictor, image, options, ids)
            for near in found["neighbours"]:  # here, where the images lie, by their own names
                near["id"] = names.get(near["id"], near["id"])
            if as_json:
                print_line(json.dumps({"file": str(path), **found}))
            for n in found["neighbours"]:
                table.add_row(path.name, n["id"], n["label"], f"{n['score']:.3f}", n["split"], n["licence"])
    finally:
        if not as_json and table.row_count:
            print_table(table)


def _readable(images: list[Path], told: Callable[[], None] = lambda: None) -> Iterator[tuple[Path, str, Any]]:
    """(path, a name for what is written of it, RGB array) of every image that can be read; `told` when one is done.

    The others are named as they are met; after the last one, `DermError` says how many there were.
    """
    failed = total = 0
    named: Counter[str] = Counter()
    for path, image in asked_images(images):
        total += 1
        if isinstance(image, str):
            failed += 1
            notes.print(f"{path}: {image}", style="red", markup=False, soft_wrap=True)
            continue
        named[path.stem] += 1  # two folders may hold images of one name
        yield path, path.stem if named[path.stem] == 1 else f"{path.stem}-{named[path.stem]}", image
        told()
    if failed:
        raise DermError(f"{failed} of {total} images could not be read")


def _drawn(task: Task, image: Any, answer: Mapping[str, Any], target: Path) -> dict[str, str]:
    """Write the drawings of an answer as `<target>.<name>.png`; name → where it lies."""
    written = {}
    for name, picture in task.drawings(image, answer).items():
        path = target.with_name(f"{target.name}.{name}.png")
        write_png(path, picture)
        written[name] = str(path)
    return written


@contextmanager
def _printed(
    task: Task, columns: list[str], form: Literal["json", "csv", "table"]
) -> Iterator[Callable[[dict[str, Any]], None]]:
    """What takes each answer: written at once as JSON or CSV, or kept for the table that people read.

    An interruption or an error leaves what was answered before: the table is printed then too.
    """
    kept: list[dict[str, Any]] = []
    head = [columns]
    warnings: dict[str, None] = {}  # each once, in the order they came

    def tell(answer: dict[str, Any]) -> None:
        row = _flat(answer)
        if form == "json":
            print_line(json.dumps(answer))
        elif form == "csv":
            print_line(csv_lines([*head, [row.get(name) for name in columns]]))
            head.clear()
        else:
            kept.append(row)
        warnings.update(dict.fromkeys(answer["warnings"]))

    try:
        yield tell
    finally:
        if kept:
            _print_answers(task, columns, kept)
        for warning in warnings:
            notes.print(warning, style="yellow", markup=False)
        if not kept:  # a table says it below itself
            notes.print(RESEARCH_USE, style="dim")


def _flat(answer: Mapping[str, Any]) -> dict[str, Any]:
    """The scalars of an answer as columns; a mapping becomes `name.key`, a list of names inside one a text."""
    row: dict[str, Any] = {}
    for name, value in answer.items():
        if isinstance(value, Mapping):
            row |= {f"{name}.{key}": inner for key, inner in _flat(value).items()}
            lists = {key: inner for key, inner in value.items() if isinstance(inner, list)}
            row |= {f"{name}.{key}": " + ".join(map(str, inner)) for key, inner in lists.items()}
        elif name == "warnings":
            row[name] = " ".join(value)
        elif not isinstance(value, list):
            row[name] = value
    return row


def _print_answers(task: Task, columns: list[str], rows: list[dict[str, Any]]) -> None:
    hidden = {"task", *FOOT, "decision", "thresholds", "decisions", "fellow_share"}
    hidden |= {"width", "height", "bounding_box", "overlay"}  # of a mask a person looks at the drawing
    # of a decision a person reads where it was made and why; --json and --csv have all of it
    shown = {"decision.point", "decision.why"}
    shown |= {ABSTAINED_BECAUSE} if any(row[ABSTAINED_BECAUSE] for row in rows) else set()
    told = [n for n in columns if n in shown or n.partition(".")[0] not in hidden]
    table = Table(*(name.removeprefix("probabilities.") for name in told), title=task.title, caption=RESEARCH_USE)
    for row in rows:
        cells = ["" if row.get(name) is None else row[name] for name in told]
        table.add_row(*(f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in cells))
    print_table(table)
