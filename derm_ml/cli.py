"""`derm`: every step of the platform from a terminal, with the defaults Dagster uses.

    derm draw lesion_classification --n 240        draw a small labelled set
    derm prepare lesion_classification             raw folder → dataset
    derm fit lesion_classification --recipe strong dataset → bundle
    derm evaluate lesion_classification MODEL      bundle → report with intervals
    derm compare lesion_classification MODEL…      models side by side on the same frozen cases
    derm predict lesion_classification IMG…        pictures → probabilities (masks and overlays, where a task draws)
    derm similar lesion_classification IMG…        pictures → known images like them
    derm make lesion_classification embedding_map MODEL    heatmaps, embeddings, a map …

Research use only: nothing here is a diagnosis.
"""

from __future__ import annotations

import csv
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml
from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column, Table

from derm_ml import RESEARCH_USE, DermError
from derm_ml.progress import EpochReport
from derm_ml.records import UNLABELLED
from derm_ml.registry import all_tasks, get_task
from derm_ml.task import PrepareSettings, Recipe, Task

if TYPE_CHECKING:
    from derm_ml.dataset import Dataset
    from derm_ml.promotion import Registry

app = typer.Typer(help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="markdown")
out_console, notes = Console(), Console(stderr=True)  # results to stdout, everything else to stderr

TaskName = Annotated[str, typer.Argument(metavar="TASK", help="a task, e.g. lesion_classification", show_default=False)]
Params = Annotated[Path, typer.Option(help="parameters of data preparation")]
RecipeName = Annotated[str, typer.Option(help="a recipe of the task; empty: its first")]
Values = Annotated[
    list[str], typer.Option("--set", metavar="NAME=VALUE", help="replace a value of the recipe; repeat for more")
]
ModelFolder = Annotated[
    Path, typer.Argument(help="what `derm fit` printed: a model folder or its bundle", show_default=False)
]


Age = Annotated[str, typer.Option(help="years, of the person in all these pictures")]
Sex = Annotated[str, typer.Option(help="male or female, of the person in all these pictures")]
Facts = Annotated[
    Path | None, typer.Option(help="a CSV of age and sex by picture: image_id (or filename), age, sex; ISIC's metadata")
]


def data_root() -> Path:
    return Path(os.environ.get("DERM_DATA", "data"))


def out_root() -> Path:
    return Path(os.environ.get("DERM_OUT", "out"))


@app.command()
def tasks() -> None:
    """List the tasks and their recipes."""
    table = Table("task", "what", "recipes (the first is the default)")
    for task in all_tasks().values():
        table.add_row(task.name, task.title, ", ".join(task.recipes))
    out_console.print(table)


@app.command()
def draw(
    task_name: TaskName,
    n: Annotated[int, typer.Option(help="how many pictures")] = 240,
    seed: int = 0,
    into: Annotated[Path | None, typer.Option(help="default: data/raw/TASK")] = None,
) -> None:
    """Draw a small labelled image set with exact truth, in a layout as downloaded."""
    folder = into or data_root() / "raw" / task_name
    if folder.exists() and any(folder.iterdir()):
        raise typer.BadParameter(f"{folder} is not empty; drawn pictures are not mixed with yours: choose --into")
    _task(task_name).draw(folder, n, seed)
    notes.print(f"drew {n} pictures into {folder}")


@app.command()
def demo(
    task_name: TaskName,
    size: Annotated[int, typer.Option(help="pixels a side of the random pictures")] = 256,
) -> None:
    """Run a task's network forward on random tensors, untrained: shows that it runs here, and the shapes."""
    try:
        found = _task(task_name).demo(size)
    except ValueError as error:
        raise DermError(str(error)) from error
    table = Table("output", "what", title=f"{task_name}, random {size}×{size} pictures")
    for name, value in found.items():
        table.add_row(name, str(value))
    out_console.print(table)


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="a data set of the catalogue; `derm fetch list` shows them")],
    into: Annotated[Path | None, typer.Option(help="it becomes <into>/<task>/<name>; default: data/raw")] = None,
) -> None:
    """Download a public data set: resumable, checksummed, unpacked into the layout the tasks read."""
    from derm_ml.fetch import catalogue, fetch_data_set

    if name == "list":
        table = Table("name", "images", "size", "licence", "citation")
        for entry in catalogue().values():
            table.add_row(entry.name, str(entry.images), entry.size, entry.licence, entry.citation)
        out_console.print(table)
        return
    print(fetch_data_set(name, into or data_root() / "raw", say=notes.print))


@app.command()
def prepare(
    task_name: TaskName,
    raw: Annotated[Path | None, typer.Option(help="folder as downloaded; default: data/raw/TASK")] = None,
    out: Annotated[Path | None, typer.Option(help="default: data/prepared/TASK")] = None,
    params: Params = Path("params.yaml"),
) -> None:
    """Turn a raw folder into a dataset: decode, quarantine, find duplicates, freeze splits, write shards."""
    from derm_ml.dataset import prepare as prepare_dataset

    task = _task(task_name)
    settings = _settings(task, params)
    with _bar("prepare") as bar:
        steps: dict[str, Any] = {}

        def progress(stage: str, done: int, total: int) -> None:
            if stage not in steps:
                steps[stage] = bar.add_task(stage, total=total)
            bar.update(steps[stage], completed=done, total=total)

        dataset = prepare_dataset(
            task,
            raw or data_root() / "raw" / task.name,
            settings,
            out or data_root() / "prepared" / task.name,
            progress,
        )
    _print_dataset(dataset)
    _print_rules(task, dataset)
    print(dataset.path)


@app.command()
def fit(
    task_name: TaskName,
    recipe: RecipeName = "",
    values: Values = [],  # noqa: B006
    data: Annotated[Path | None, typer.Option(help="prepared dataset; default: data/prepared/TASK")] = None,
    out: Annotated[Path | None, typer.Option(help="model folder; default: out/TASK/RECIPE-ID")] = None,
) -> None:
    """Train a model. Run it again after a crash and it goes on where it was."""
    from derm_ml.dataset import model_folder

    task = _task(task_name)
    dataset = _dataset(task, data)
    if not _print_rules(task, dataset):
        raise DermError("a blocking data rule is red: nothing is trained on these data")
    chosen = _recipe(task, recipe, values)
    folder = out or model_folder(out_root(), task, chosen, dataset.md5)
    notes.print(f"recipe [bold]{chosen.name}[/bold] → {folder}")

    print(task.fit(dataset, chosen, folder, _say_epoch).parent)


@app.command()
def evaluate(
    task_name: TaskName,
    model: ModelFolder,
    split: Annotated[str, typer.Option(help="train, validation or test")] = "test",
    data: Annotated[Path | None, typer.Option(help="prepared dataset; default: data/prepared/TASK")] = None,
) -> None:
    """Measure a model on a frozen split: metrics with intervals, figures, one HTML report."""
    task = _task(task_name)
    with notes.status(f"evaluating on {split}"):
        evaluation = task.evaluate(task.load(_bundle(model)), _dataset(task, data), split)
        folder = _bundle(model).parent / f"evaluation_{split}"
        evaluation.save(folder)
    columns = (Column("metric", no_wrap=True), "value", Column("95 % interval", no_wrap=True), "n")
    table = Table(*columns, title=f"{task.title} · {split}")
    for name, metric in evaluation.metrics.items():
        value = "–" if metric.value is None else f"{metric.value:.4f}"
        interval = "" if metric.low is None or metric.high is None else f"{metric.low:.4f} to {metric.high:.4f}"
        table.add_row(name, value, interval, str(metric.n))
    table.caption = RESEARCH_USE
    out_console.print(table)
    for why in dict.fromkeys(metric.note for metric in evaluation.metrics.values() if metric.value is None):
        notes.print(f"– {why}")
    for gate in task.gates:
        finding = gate.check(evaluation)
        notes.print(f"{'[green]✓' if finding.passed else '[red]✗'}[/] {gate.name}: {finding.message}")
    print(folder / "report.html")


@app.command()
def compare(
    task_name: TaskName,
    runs: Annotated[
        list[Path], typer.Argument(help="evaluated models, two or more; the first is the reference", show_default=False)
    ],
    split: Annotated[str, typer.Option(help="the split they were evaluated on")] = "test",
    into: Annotated[Path | None, typer.Option(help="default: out/TASK/comparison")] = None,
) -> None:
    """Set models side by side on the same frozen cases: paired differences with intervals, a table and a figure."""
    from derm_ml.comparison import compare as compare_runs
    from derm_ml.comparison import named_apart, read_run

    task = _task(task_name)
    found = named_apart([read_run(path, split) for path in runs])
    other = next((run for run in found if run.evaluation.task != task.name), None)
    if other:
        raise DermError(f"{other.name} is a model of {other.evaluation.task}, not of {task.name}")
    with notes.status("resampling patients"):
        comparison = compare_runs(found, task)
        folder = comparison.save(into or out_root() / task.name / "comparison")
    title = f"{task.title} · {comparison.split} {comparison.split_hash} · reference {comparison.runs[0].name}"
    table = Table(
        Column("metric", no_wrap=True), "run", "reference", "value", "difference", "95 % interval", "DeLong", "verdict",
        title=title,
        caption=f"{comparison.n} cases, {comparison.groups} groups resampled. {comparison.by_chance} {RESEARCH_USE}",
    )  # fmt: skip
    for row in comparison.rows:
        delong = f"{row.delong.low:+.4f} to {row.delong.high:+.4f}" if row.delong else ""
        values = ["" if value is None else f"{value:.4f}" for value in (row.reference, row.value)]
        found = row.difference
        told = [f"{found.value:+.4f}", f"{found.low:+.4f} to {found.high:+.4f}"] if found else ["", ""]
        table.add_row(
            row.metric, row.run, *values, *told, delong, f"{row.verdict}: {row.remark}" if row.remark else row.verdict
        )
    out_console.print(table)
    print(folder / "comparison.png")


@app.command()
def predict(
    task_name: TaskName,
    images: Annotated[list[Path], typer.Argument(help="pictures, or folders of pictures", show_default=False)],
    model: Annotated[Path | None, typer.Option(help="model folder or bundle; default: the champion")] = None,
    point: Annotated[str, typer.Option(help="decide at this operating point; default: the task's")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object a line")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="a CSV table")] = False,
    into: Annotated[Path | None, typer.Option(help="folder for drawn masks; default: out/TASK/predicted")] = None,
    age: Age = "",
    sex: Sex = "",
    facts: Facts = None,
) -> None:
    """Predict pictures: a table for people, --json or --csv for machines. A picture that cannot be read is named.

    A task that draws (masks, overlays) writes its drawings into a folder; the answer says where.
    """
    task = _task(task_name)
    if task.pairs:
        raise DermError(f"{task.name} is asked about two photos: use `derm match`")
    options = _options(age, sex, facts, point=point)
    answers: list[dict[str, Any]] = []
    failures, predictor = 0, None
    named: Counter[str] = Counter()
    for path, image in _pictures(images):
        if isinstance(image, str):
            failures += 1
            notes.print(f"[red]{path}: {image}")
            continue
        predictor = predictor or _predictor(task, model)
        if point and point not in predictor.card.point_names:
            raise DermError(
                f"the model has no operating point '{point}'; it has {', '.join(predictor.card.point_names)}"
            )
        answer = {"file": str(path), **task.answer(predictor, image, options(path))}
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
    notes.print(f"[dim]{RESEARCH_USE}")
    if failures or not answers:
        raise DermError(f"{failures} of {failures + len(answers)} pictures could not be read")


@app.command()
def explain(
    task_name: TaskName,
    images: Annotated[list[Path], typer.Argument(help="pictures, or folders of pictures", show_default=False)],
    model: Annotated[Path | None, typer.Option(help="model folder or bundle; default: the champion")] = None,
    label: Annotated[str, typer.Option(help="explain this label; default: the most likely")] = "",
    into: Annotated[Path, typer.Option(help="folder for the overlays")] = Path("out/explained"),
    age: Age = "",
    sex: Sex = "",
    facts: Facts = None,
) -> None:
    """Lay a heatmap over each picture: what the network looked at."""
    import cv2

    task = _task(task_name)
    if task.pairs:
        raise DermError(f"{task.name} is asked about two photos: use `derm match` with --picture")
    predictor = _predictor(task, model)
    options = _options(age, sex, facts, label=label)
    into.mkdir(parents=True, exist_ok=True)
    for path, image in _pictures(images):
        if isinstance(image, str):
            raise DermError(f"{path}: {image}")
        picture = task.explain(predictor, image, options(path))
        target = into / f"{path.stem}.explained.png"
        cv2.imwrite(str(target), picture[..., ::-1])
        print(target)


@app.command("pseudo-label")
def pseudo_label(
    task_name: TaskName,
    model: ModelFolder,
    data: Annotated[Path | None, typer.Option(help="prepared dataset; default: data/prepared/TASK")] = None,
) -> None:
    """Propose labels for the unlabelled images by the neighbours of the model's embeddings, and audit them."""
    from derm_ml.embeddings.pseudo_labels import propose, write_proposal
    from derm_ml.predictor import Predictor

    predictor, dataset = Predictor(_bundle(model)), _dataset(_task(task_name), data)
    with notes.status("spreading labels"):
        proposal = propose(predictor, dataset)
        made = write_proposal(proposal, predictor, dataset, _bundle(model).parent / "pseudo_labels")
    table = Table("slice", "label", "given", "n", "precision", "95 % interval", title="How often they are right")
    for row in proposal.audit:
        right = "" if row["precision"] is None else f"{row['precision']:.3f}"
        interval = "" if row["low"] is None else f"{row['low']:.3f} to {row['high']:.3f}"
        table.add_row(row["slice"], row["label"], row["given"], str(row["n"]), right, interval)
    out_console.print(table)
    given = f"{proposal.used} of {len(proposal.table)} unlabelled images got a label"
    notes.print(f"{given}; {proposal.excluded} of validation or test patients were left out")
    print(made["pseudo_labels"])


@app.command()
def match(
    task_name: TaskName,
    first: Annotated[Path, typer.Argument(help="photo of the first visit", show_default=False)],
    second: Annotated[Path, typer.Argument(help="photo of the second visit", show_default=False)],
    boxes: Annotated[Path | None, typer.Option(help="JSON: first and second, each a list of label and box")] = None,
    model: Annotated[Path | None, typer.Option(help="model folder or bundle; default: the champion")] = None,
    picture: Annotated[Path | None, typer.Option(help="also draw the pair with its matches into this PNG")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="the whole answer as one JSON object")] = False,
) -> None:
    """Match the conditions of two visits: which persist, are new, resolved or not visible."""
    import cv2

    from derm_ml.matching.files import read_pair

    task = _task(task_name)
    if not task.pairs:
        raise DermError(f"{task.name} is asked about single pictures: use `derm predict`")
    predictor = _predictor(task, model)
    pair = read_pair(first, second, boxes)
    try:
        answer = task.answer(predictor, pair, {})
        if picture:
            cv2.imwrite(str(picture), task.explain(predictor, pair, {})[..., ::-1])
    except ValueError as error:
        raise DermError(str(error)) from error
    if as_json:
        print(json.dumps(answer))
    else:
        _print_pair(task, answer)
    if picture:
        print(picture)
    notes.print(f"[dim]{RESEARCH_USE}")
    if not answer["accepted"]:
        raise DermError(f"refused: {answer['reason']}")


@app.command()
def similar(
    task_name: TaskName,
    images: Annotated[list[Path], typer.Argument(help="pictures, or folders of pictures", show_default=False)],
    model: Annotated[Path | None, typer.Option(help="model folder or bundle; default: the champion")] = None,
    k: Annotated[int, typer.Option(min=1, max=50, help="how many neighbours")] = 5,
    patient: Annotated[str, typer.Option(help="leave this patient's images out")] = "",
    licence: Annotated[str, typer.Option(help="only images under these licences, separated by commas")] = "",
    data: Annotated[Path | None, typer.Option(help="prepared dataset; default: data/prepared/TASK")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object a line")] = False,
) -> None:
    """Find the known images most like each picture. The index is made once a model, from the prepared dataset."""
    from derm_ml.embeddings.made import similar_of
    from derm_ml.embeddings.similar import answer

    task = _task(task_name)
    if not task.has_embedding:
        raise DermError(f"{task.name} has no index of similar images: its model has no embedding")
    predictor = _predictor(task, model)
    version = predictor.bundle.version
    folder = _bundle(model).parent if model else out_root() / task.name / "again" / version
    with _bar("index") as bar:
        steps: list[Any] = []

        def dataset() -> Dataset:
            found = _dataset(task, data)
            steps.append(bar.add_task("embed", total=len(found.manifest)))
            return found

        index = similar_of(predictor, dataset, folder, lambda done: bar.advance(steps[0], done))
    table = Table("picture", "neighbour", "label", "cosine", "split", "licence", title=task.title, caption=RESEARCH_USE)
    options = {"k": str(k), "patient": patient, "licence": licence}
    for path, image in _pictures(images):
        if isinstance(image, str):
            raise DermError(f"{path}: {image}")
        found = answer(index, predictor, image, options)
        if as_json:
            print(json.dumps({"file": str(path), **found}))
        for near in found["neighbours"]:
            table.add_row(path.name, near["id"], near["label"], f"{near['score']:.3f}", near["split"], near["licence"])
    if not as_json:
        out_console.print(table)


@app.command()
def autoencode(
    task_name: TaskName,
    recipe: Annotated[str, typer.Option(help="strong_autoencoder, faithful_autoencoder or drawn_autoencoder")] = (
        "strong_autoencoder"
    ),
    values: Values = [],  # noqa: B006
    data: Annotated[Path | None, typer.Option(help="prepared dataset; default: data/prepared/TASK")] = None,
    out: Annotated[Path | None, typer.Option(help="model folder; default: out/TASK/RECIPE-ID")] = None,
    against: Annotated[Path | None, typer.Option(help="a classifier's model folder, to compare embeddings")] = None,
) -> None:
    """Train an autoencoder on the images of a task and report reconstructions and codes. Labels are not learned."""
    from derm_ml.dataset import model_folder
    from derm_ml.embeddings.autoencoder import AutoencoderPredictor
    from derm_ml.embeddings.made import table_of
    from derm_ml.embeddings.recipes import AUTOENCODERS
    from derm_ml.embeddings.report import report_autoencoder
    from derm_ml.training.autoencoder import fit_autoencoder

    task = _task(task_name)
    dataset = _dataset(task, data)
    if recipe not in AUTOENCODERS:
        raise typer.BadParameter(f"no autoencoder '{recipe}'; there are {', '.join(AUTOENCODERS)}")
    try:
        chosen = AUTOENCODERS[recipe](**_values(values))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    folder = out or model_folder(out_root(), task, chosen, dataset.md5)
    notes.print(f"recipe [bold]{chosen.name}[/bold] → {folder}")
    bundle = fit_autoencoder(dataset, chosen, folder, _say_epoch)
    with notes.status("measuring reconstructions and codes"):
        classifier = table_of(task.load(_bundle(against)), dataset, _bundle(against).parent) if against else None
        report = report_autoencoder(AutoencoderPredictor(bundle), dataset, task.title, classifier)
        saved = report.save(folder / "report")
    for name in ("psnr", "ssim", "checkerboard_energy", "code_silhouette", "code_precision_at_5"):
        notes.print(f"{name}: {report.metrics[name]}")
    print(saved / "report.html")


@app.command()
def make(
    task_name: TaskName,
    artifact: Annotated[str, typer.Argument(help="e.g. heatmaps, embeddings, embedding_map", show_default=False)],
    model: ModelFolder,
    data: Annotated[Path | None, typer.Option(help="prepared dataset; default: data/prepared/TASK")] = None,
) -> None:
    """Make something of a model beside its evaluation: a sheet of heatmaps, an embedding table, a map."""
    task = _task(task_name)
    known = {a.name: a for a in task.artifacts}
    if artifact not in known:
        raise typer.BadParameter(f"{task.name} makes no '{artifact}'; it makes {', '.join(known)}")
    bundle = _bundle(model)
    folder = bundle.parent / artifact
    folder.mkdir(exist_ok=True)
    with notes.status(f"making {artifact}"):
        made = known[artifact].make(task.load(bundle), _dataset(task, data), folder)
    for path in made.values():
        print(path)


@app.command()
def promote(
    task_name: TaskName,
    model: ModelFolder,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would happen, change nothing")] = False,
) -> None:
    """Make a model the champion if the evidence allows it; the decision goes to the ledger either way."""
    decision = _registry().promote(_task(task_name), _bundle(model), dry_run=dry_run)
    for reason in decision.reasons:
        notes.print(f"- {reason}")
    print("promoted" if decision.promote else "refused")
    if not decision.promote:
        raise typer.Exit(1)


@app.command()
def rollback(task_name: TaskName) -> None:
    """Make the previous champion the champion again."""
    print(_registry().rollback(_task(task_name)))


def main() -> None:
    """Run the command line; an error the user can act on is one sentence, not a stack trace."""
    try:
        app()
    except DermError as error:
        notes.print(f"[red]derm: {error}", soft_wrap=True)
        sys.exit(2)


def _task(name: str) -> Task:
    try:
        return get_task(name)
    except KeyError as error:
        raise typer.BadParameter(str(error.args[0])) from None


def _settings(task: Task, params: Path) -> PrepareSettings:
    given: Mapping[str, Any] = {}
    if params.exists():
        sections = (yaml.safe_load(params.read_text(encoding="utf-8")) or {}).get("tasks") or {}
        if task.name not in sections:  # a section in the wrong place must not pass as "all defaults"
            raise DermError(f"{params} has no section tasks.{task.name}: write one (`{{}}` for the defaults)")
        given = sections[task.name] or {}
    try:
        return task.settings(**given)
    except ValidationError as error:
        raise DermError(f"{params}, section tasks.{task.name}: {error}") from None


def _recipe(task: Task, name: str, values: list[str]) -> Recipe:
    try:
        return task.recipe(name, **_values(values))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _options(age: str, sex: str, facts: Path | None, **wishes: str) -> Callable[[Path], dict[str, str]]:
    """Picture → the options of the task: what was wished, and what is known of the person."""
    from derm_ml.sources.attributes import OLDEST, read_facts

    if age and not _is_number(age, 0, OLDEST):
        raise DermError(f"--age {age}: write years, 0 to {OLDEST:g}")
    if sex and sex.lower() not in ("male", "female"):
        raise DermError(f"--sex {sex}: write male or female")
    known = read_facts(facts) if facts else {}

    def options(path: Path) -> dict[str, str]:
        of_picture = {name: str(value) for name, value in known.get(path.stem, {}).items() if name in ("age", "sex")}
        return {name: value for name, value in ({"age": age, "sex": sex} | of_picture | wishes).items() if value}

    return options


def _is_number(text: str, low: float, high: float) -> bool:
    try:
        return low <= float(text) <= high
    except ValueError:
        return False


def _say_epoch(report: EpochReport) -> None:
    figures = "  ".join(f"{name} {value:.4f}" for name, value in report.metrics.items())
    notes.print(
        f"epoch {report.epoch:3d}/{report.epochs}  loss {report.train_loss:.4f}  {figures}  "
        f"{report.images_per_second:6.1f} img/s  {report.seconds:5.0f} s{'  best' if report.best else ''}"
    )


def _values(values: list[str]) -> dict[str, Any]:
    given = {}
    for value in values:
        key, equals, text = value.partition("=")
        if not equals:
            raise typer.BadParameter(f"--set {value}: write NAME=VALUE")
        given[key] = yaml.safe_load(text)
    return given


def _dataset(task: Task, path: Path | None) -> Dataset:
    from derm_ml.dataset import Dataset

    return Dataset.open(path or data_root() / "prepared" / task.name)


def _bundle(model: Path) -> Path:
    return model if (model / "bundle.json").exists() else model / "bundle"


def _predictor(task: Task, model: Path | None) -> Any:
    return task.load(_bundle(model) if model else _registry().champion(task))


def _registry() -> Registry:
    """The model registry, found by entry point: the library itself knows none."""
    found = entry_points(group="derm.registry")
    if not found:
        raise DermError("no model registry is installed; give the model with --model, or install the whole project")
    return next(iter(found)).load()()


def _pictures(paths: list[Path]) -> Iterator[tuple[Path, Any]]:
    """(path, RGB array or the sentence why it cannot be read) of every picture in the files and folders."""
    from derm_ml.images.containers import ImageError
    from derm_ml.images.decode import IMAGE_EXTENSIONS, INGEST_FORMATS, decode, read_image_file

    for path in paths:
        files = [path]
        if path.is_dir():
            files = sorted(p for p in path.rglob("*") if p.suffix.lower() in IMAGE_EXTENSIONS)
        for file in files:
            try:
                yield file, decode(read_image_file(file), INGEST_FORMATS)
            except FileNotFoundError:
                yield file, "there is no such file"
            except ImageError as error:
                yield file, str(error)


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


def _bar(title: str) -> Progress:
    return Progress(
        TextColumn(f"{title} · {{task.description}}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=notes,
    )


def _print_dataset(dataset: Dataset) -> None:
    table = Table(
        "split", *dataset.labels, "hash", title=f"{dataset.task}: {dataset.info['samples']} images, md5 {dataset.md5}"
    )
    for split, counts in dataset.info["counts"].items():
        table.add_row(split, *(str(counts.get(label, 0)) for label in dataset.labels), dataset.split_hashes[split])
    notes.print(table)
    if unlabelled := dataset.info["sizes"].get(UNLABELLED):
        notes.print(f"{unlabelled} unlabelled images")
    if left_out := dataset.info["left_out"]:
        notes.print(f"not modelled: {', '.join(f'{name} ({n})' for name, n in left_out.items())}")
    if len(dataset.quarantine):
        notes.print(f"[yellow]{len(dataset.quarantine)} quarantined: {dataset.path / 'quarantine.csv'}")
    notes.print(f"licences: {', '.join(f'{name} ({n})' for name, n in dataset.licences.items())}")


def _print_rules(task: Task, dataset: Dataset) -> bool:
    """Print every data rule; False if a blocking one is red."""
    usable = True
    for rule in task.rules:
        finding = rule.check(dataset)
        usable = usable and (finding.passed or not rule.blocking)
        notes.print(f"{'[green]✓' if finding.passed else '[red]✗'}[/] {rule.name}: {finding.message}")
    return usable


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
        writer = csv.DictWriter(sys.stdout, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _print_pair(task: Task, answer: Mapping[str, Any]) -> None:
    """One row a box: its state, its partner and how sure that is."""
    partners = {("first", m["first"]): m for m in answer["matches"]} | {
        ("second", m["second"]): m for m in answer["matches"]
    }
    table = Table(
        "photo", "box", "label", "state", "confidence", "other box", "size", title=task.title, caption=RESEARCH_USE
    )
    for side, other in (("first", "second"), ("second", "first")):
        for box in answer[side]:
            partner = partners.get((side, box["number"]))
            extra = (str(partner[other]), f"×{partner['size_change']:.2f}") if partner else ("", "")
            sure = f"{box['confidence']:.2f}" if "confidence" in box else ""
            table.add_row(side, str(box["number"]), box["label"], box.get("state", ""), sure, *extra)
    if table.row_count:
        out_console.print(table)
    same = answer["probability_same_skin"]
    out_console.print(f"same skin: {'not known' if same is None else f'{same:.2f}'}")


def _print_answers(task: Task, answers: list[dict[str, Any]]) -> None:
    rows = [_flat(a) for a in answers]
    hidden = {"task", "note", "dataset_md5", "model_version", "decision", "thresholds", "decisions"}
    hidden |= {"width", "height", "bounding_box", "overlay"}  # of a mask a person looks at the drawing
    # of a decision a person reads where it was made and why; --json and --csv have all of it
    shown = {"decision.point", "decision.why"}
    columns = [n for n in rows[0] if n in shown or n.partition(".")[0] not in hidden]
    table = Table(*(name.removeprefix("probabilities.") for name in columns), title=task.title, caption=RESEARCH_USE)
    for row in rows:
        table.add_row(*(f"{row[c]:.3f}" if isinstance(row[c], float) else str(row[c]) for c in columns))
    out_console.print(table)


if __name__ == "__main__":
    main()
