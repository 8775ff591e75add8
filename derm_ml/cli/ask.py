"""A model asked about pictures from a terminal: predict, explain, find similar ones."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from derm_ml import RESEARCH_USE, DermError
from derm_ml.cli.arguments import (
    Model,
    PreparedData,
    TaskName,
    bundle_of,
    dataset_of,
    fellow_of,
    options_of,
    out_root,
    pictures,
    predictor_of,
    task_of,
)
from derm_ml.cli.terminal import notes, print_result, print_table, progress_bar
from derm_ml.tables import write_rows
from derm_ml.task import Task

if TYPE_CHECKING:
    from derm_ml.dataset import Dataset

Images = Annotated[list[Path], typer.Argument(help="pictures, or folders of pictures", show_default=False)]
Age = Annotated[str, typer.Option(help="years, of the person in all these pictures")]
Sex = Annotated[str, typer.Option(help="male or female, of the person in all these pictures")]
Facts = Annotated[
    Path | None, typer.Option(help="a CSV of age and sex by picture: image_id (or filename), age, sex; ISIC's metadata")
]

Fellow = Annotated[
    Path | None, typer.Option(help="retinal_findings: photo of the same person's other eye, of one picture")
]


def predict(
    task_name: TaskName,
    images: Images,
    model: Model = None,
    point: Annotated[str, typer.Option(help="decide at this operating point; default: the task's")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object a line")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="a CSV table")] = False,
    into: Annotated[Path | None, typer.Option(help="folder for drawn masks; default: out/TASK/predicted")] = None,
    fellow: Fellow = None,
    age: Age = "",
    sex: Sex = "",
    facts: Facts = None,
) -> None:
    """Predict pictures: a table for people, --json or --csv for machines. A picture that cannot be read is named.

    A task that draws (masks, overlays) writes its drawings into a folder; the answer says where.
    """
    task = task_of(task_name)
    if task.pairs:
        raise DermError(f"{task.name} is asked about two photos: use `derm match`")
    options = options_of(age, sex, facts, point=point)
    answers: list[dict[str, Any]] = []
    failures, predictor = 0, None
    named: Counter[str] = Counter()
    with_fellow = fellow_of(task, images, fellow)
    for path, image in pictures(images):
        if isinstance(image, str):
            failures += 1
            notes.print(f"{path}: {image}", style="red")
            continue
        predictor = predictor or predictor_of(task, model)
        if point and point not in predictor.card.point_names:
            raise DermError(
                f"the model has no operating point '{point}'; it has {', '.join(predictor.card.point_names)}"
            )
        answer = {"file": str(path), **task.answer(predictor, with_fellow(image), options(path))}
        named[path.stem] += 1  # two folders may hold pictures of one name
        stem = path.stem if named[path.stem] == 1 else f"{path.stem}-{named[path.stem]}"
        answer |= _drawn(task, image, answer, (into or out_root() / task.name / "predicted") / stem)
        answers.append(answer)
        if as_json:
            print(json.dumps(answer))
    if as_csv:
        _print_csv(answers)
    elif not as_json and answers:
        _print_answers(task, answers)
    notes.print(RESEARCH_USE, style="dim")
    if failures or not answers:
        raise DermError(f"{failures} of {failures + len(answers)} pictures could not be read")


def explain(
    task_name: TaskName,
    images: Images,
    model: Model = None,
    label: Annotated[str, typer.Option(help="explain this label; default: the most likely")] = "",
    into: Annotated[Path, typer.Option(help="folder for the overlays")] = Path("out/explained"),
    fellow: Fellow = None,
    age: Age = "",
    sex: Sex = "",
    facts: Facts = None,
) -> None:
    """Lay a heatmap over each picture: what the network looked at."""
    import cv2

    task = task_of(task_name)
    if task.pairs:
        raise DermError(f"{task.name} is asked about two photos: use `derm match` with --picture")
    predictor = predictor_of(task, model)
    options = options_of(age, sex, facts, label=label)
    with_fellow = fellow_of(task, images, fellow)
    into.mkdir(parents=True, exist_ok=True)
    for path, image in pictures(images):
        if isinstance(image, str):
            raise DermError(f"{path}: {image}")
        picture = task.explain(predictor, with_fellow(image), options(path))
        target = into / f"{path.stem}.explained.png"
        cv2.imwrite(str(target), picture[..., ::-1])
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
    """Find the known images most like each picture. The index is made once a model, from the prepared dataset."""
    from derm_ml.embeddings.made import similar_of
    from derm_ml.embeddings.similar import answer

    task = task_of(task_name)
    if not task.has_embedding:
        raise DermError(f"{task.name} has no index of similar images: its model has no embedding")
    predictor = predictor_of(task, model)
    version = predictor.bundle.version
    folder = bundle_of(model).parent if model else out_root() / task.name / "again" / version
    with progress_bar("index") as bar:
        steps: list[Any] = []

        def dataset() -> Dataset:
            found = dataset_of(task, data)
            steps.append(bar.add_task("embed", total=len(found.manifest)))
            return found

        index = similar_of(predictor, dataset, folder, lambda done: bar.advance(steps[0], done))
    table = Table("picture", "neighbour", "label", "cosine", "split", "licence", title=task.title, caption=RESEARCH_USE)
    options = {"k": str(k), "patient": patient, "licence": licence}
    for path, image in pictures(images):
        if isinstance(image, str):
            raise DermError(f"{path}: {image}")
        found = answer(index, predictor, image, options)
        if as_json:
            print(json.dumps({"file": str(path), **found}))
        for near in found["neighbours"]:
            table.add_row(path.name, near["id"], near["label"], f"{near['score']:.3f}", near["split"], near["licence"])
    if not as_json:
        print_table(table)


def _drawn(task: Task, image: Any, answer: Mapping[str, Any], target: Path) -> dict[str, str]:
    """Write the drawings of an answer as `<target>.<name>.png`; name → where it lies."""
    import cv2

    from derm_ml.files import replacing_file

    written = {}
    for name, picture in task.drawings(image, answer).items():
        path = target.with_name(f"{target.name}.{name}.png")
        with replacing_file(path) as temporary:
            ordered = picture[..., ::-1] if picture.ndim == 3 else picture
            temporary.write_bytes(cv2.imencode(".png", ordered)[1].tobytes())
        written[name] = str(path)
    return written


def _flat(answer: Mapping[str, Any]) -> dict[str, Any]:
    """The scalars of an answer as columns; a mapping of scalars becomes `name.key`."""
    row: dict[str, Any] = {}
    for name, value in answer.items():
        if isinstance(value, Mapping):
            row |= {f"{name}.{key}": inner for key, inner in value.items()}
        elif not isinstance(value, list):
            row[name] = value
    return row


def _print_csv(answers: list[dict[str, Any]]) -> None:
    rows = [_flat(answer) for answer in answers]
    if rows:
        write_rows(sys.stdout, list(rows[0]), rows)


def _print_answers(task: Task, answers: list[dict[str, Any]]) -> None:
    rows = [_flat(a) for a in answers]
    hidden = {"task", "note", "dataset_md5", "model_version", "decision", "thresholds", "decisions", "fellow_share"}
    hidden |= {"width", "height", "bounding_box", "overlay"}  # of a mask a person looks at the drawing
    # of a decision a person reads where it was made and why; --json and --csv have all of it
    shown = {"decision.point", "decision.why"}
    columns = [n for n in rows[0] if n in shown or n.partition(".")[0] not in hidden]
    table = Table(*(name.removeprefix("probabilities.") for name in columns), title=task.title, caption=RESEARCH_USE)
    for row in rows:
        table.add_row(*(f"{row[c]:.3f}" if isinstance(row[c], float) else str(row[c]) for c in columns))
    print_table(table)
