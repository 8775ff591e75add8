"""What the verbs share: arguments of one wording, and what a word on the command line names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml

from derm_ml import DermError
from derm_ml.asking.options import PREVALENCE, read_options
from derm_ml.asking.pair import SECOND, Pair
from derm_ml.cli.terminal import notes
from derm_ml.files import is_empty
from derm_ml.model_folder import bundle_named
from derm_ml.places import installation
from derm_ml.recipe import Recipe
from derm_ml.records import FROZEN, DataError
from derm_ml.registry import all_tasks, get_task
from derm_ml.sentences import WrongValue, unknown
from derm_ml.task import Task

if TYPE_CHECKING:
    from derm_ml.bundles.bundle import BundleCard
    from derm_ml.data.dataset import Dataset
    from derm_ml.promotion import Registry
    from derm_ml.promotion.beside import Champion
    from derm_ml.tree import Tree

_NAMED = 50  # files that a line names; the rest is counted
TaskName = Annotated[str, typer.Argument(metavar="TASK", help="a task, e.g. lesion_classification", show_default=False)]
PreparedData = Annotated[Path | None, typer.Option(help="prepared dataset; default: data/prepared/TASK")]
Values = Annotated[
    list[str], typer.Option("--set", metavar="NAME=VALUE", help="replace a value of the recipe; repeat for more")
]
TrainedModel = Annotated[
    Path, typer.Argument(help="what `derm fit` printed: a model folder or its bundle", show_default=False)
]
Options = Annotated[
    list[str],
    typer.Option("--option", metavar="NAME=VALUE", help="an option of the task; see `derm tasks TASK`"),
]
Prevalence = Annotated[
    str,
    typer.Option(
        help="share of the label where the model is used, such as 0.02; of several labels NAME:SHARE,NAME:SHARE: adds "
        "corrected probabilities"
    ),
]
Model = Annotated[Path | None, typer.Option(help="model folder or bundle; default: the champion")]


def task_of(name: str) -> Task:
    try:
        return get_task(name)
    except KeyError:
        raise WrongValue(unknown("task", name, all_tasks(), "tasks are:")) from None


def recipe_of(task: Task, name: str, values: list[str]) -> Recipe:
    return task.recipe(name, **values_of(values))


def values_of(values: list[str]) -> dict[str, Any]:
    given = {}
    for value in values:
        key, equals, text = value.partition("=")
        if not equals or not key:
            raise DermError(f"--set {value}: write NAME=VALUE, for example --set epochs=5")
        try:
            given[key] = yaml.safe_load(text)
        except yaml.YAMLError:
            raise DermError(f"--set {value}: '{text}' cannot be read; put quotes around a text") from None
    return given


def dataset_of(task: Task, path: Path | None) -> Dataset:
    """The prepared dataset at `path`, by default the task's own. Raises `DataError` for one of another task."""
    from derm_ml.data.dataset import Dataset

    dataset = Dataset.open(path or installation().prepared(task.name))
    if dataset.task != task.name:
        raise DataError(
            f"{dataset.path} is a dataset of {dataset.task}, not of {task.name}: choose another with --data"
        )
    return dataset


def split_of(name: str) -> str:
    if name not in FROZEN:
        raise WrongValue(unknown("split", name, FROZEN, "there are"))
    return name


def replaceable(folder: Path, mark: str) -> Path:
    """A folder a verb may replace: absent, empty, or one it wrote before, which holds `mark`."""
    if folder.is_dir() and not is_empty(folder) and not (folder / mark).exists():
        raise DermError(f"{folder} holds other files ({mark} is not among them), which would be lost: choose another")
    return folder


def asked_by(task: Task, verb: str, how: str = "") -> None:
    """Raises a `DermError` naming the right verb, and `how` it is used, if the task is asked by another one."""
    if task.asking.verb != verb:
        raise DermError(f"{task.name} is asked about {task.asking.about}: use `derm {task.asking.verb}`{how}")


def predictor_of(task: Task, model: Path | None) -> Any:
    from derm_ml.bundles.bundle import require_trusted
    from derm_ml.bundles.providers import CPU
    from derm_ml.cli.terminal import notes

    bundle = bundle_named(model) if model else open_registry().champion(task)
    require_trusted(bundle)
    predictor = task.load(bundle)
    if predictor.provider != CPU:
        notes.print(f"runs on {predictor.provider}")
    return predictor


def registry_installed() -> bool:
    """Whether more than the library is installed: only then is there a champion to ask."""
    return bool(entry_points(group="derm.registry"))


def open_registry() -> Registry:
    """The model registry, found by entry point: the library itself knows none."""
    found = entry_points(group="derm.registry")
    if not found:
        raise DermError("no model registry is installed; give the model with --model, or install the whole project")
    return next(iter(found)).load()()


def champion_on(task: Task, dataset_md5: str) -> Callable[[], Champion | None] | None:
    """What finds the champion with its figures on a dataset; None where only the library is installed."""
    return (lambda: open_registry().champion_on(task, dataset_md5)) if registry_installed() else None


def refuse_useless(task: Task, age: str, sex: str, facts: Path | None) -> None:
    """Raises a `DermError` for facts of a person that a task is not asked with: they would change nothing."""
    for name, value, said in (("age", age, ("age",)), ("sex", sex, ("sex",)), ("facts", facts, ("age", "sex"))):
        if value and not task.asking.known.keys() & set(said):
            raise DermError(f"--{name}: {task.name} is not asked with {' or '.join(said)}; leave it out")


def options_from_flags(
    age: str, sex: str, facts: Path | None, images: Sequence[Path], **wishes: str
) -> Callable[[Path], dict[str, str]]:
    """Image → the options of the task: what was wished, and what is known of the person.

    Raises `DermError` for a list of facts that names none of the images.
    """
    from derm_ml.data.sources.attributes import OLDEST, read_facts

    if age and not _is_number(age, 0, OLDEST):
        raise DermError(f"--age {age}: write years, 0 to {OLDEST:g}")
    if sex and sex.lower() not in ("male", "female"):
        raise DermError(f"--sex {sex}: write male or female")
    known = read_facts(facts) if facts else {}
    if facts and known and not any(file.stem in known for path in images for file in _files_of(path)):
        example = next((file.stem for path in images for file in _files_of(path)), "none")
        raise DermError(
            f"{facts} names none of these images: it has {next(iter(known))!r} and the like, the images are called "
            f"{example!r} and the like; write their names, without folders, in its first column"
        )

    def options(path: Path) -> dict[str, str]:
        of_picture = {name: str(value) for name, value in known.get(path.stem, {}).items() if name in ("age", "sex")}
        return {name: value for name, value in ({"age": age, "sex": sex} | of_picture | wishes).items() if value}

    return options


def prevalence_option(task: Task, given: str) -> list[str]:
    """`--prevalence` as an `--option`. Raises `DermError` for a task that has nothing to correct."""
    if given and PREVALENCE.name not in task.asking.known:
        raise DermError(f"--prevalence: {task.name} gives no probabilities of labels that could be corrected")
    return [f"{PREVALENCE.name}={given}"] if given else []


def wished(task: Task, given: Sequence[str], card: BundleCard) -> dict[str, str]:
    """`--option NAME=VALUE` as the task declares them. Raises `AskingError` for one it does not have or take."""
    pairs = [tuple(one.split("=", 1)) for one in given]
    if bad := [one for one, pair in zip(given, pairs, strict=True) if len(pair) != 2]:
        raise DermError(f"--option {bad[0]}: write NAME=VALUE")
    return read_options([(name, value) for name, value in pairs], task.asking.known, card)


def count_files(paths: Sequence[Path]) -> int:
    """How many images there are in the files and folders, readable or not."""
    return sum(len(_files_of(path)) for path in paths)


def _files_of(path: Path) -> list[Path]:
    from derm_ml.data.sources.image_files import image_files
    from derm_ml.tree import files_below

    return [path / name for name in image_files(files_below(path), deep=True)[0]] if path.is_dir() else [path]


def fellow_of(task: Task, images: Sequence[Path], path: Path | None) -> Callable[[Any], Any]:
    """What a task is asked of an image: the image, or it and the photo of the person's other eye in `path`."""
    if path is None:
        return lambda image: image
    if not any(part.name == SECOND for part in task.asking.parts):
        raise DermError(f"--fellow: {task.name} is asked about {task.asking.about}")
    if len(images) != 1 or images[0].is_dir() or path.is_dir():
        raise DermError("--fellow: give one image of the eye in question, and one of the other eye")
    ((_, other),) = asked_images([path])
    if isinstance(other, str):
        raise DermError(f"{path}: {other}")
    return lambda image: Pair(image, other)


def _is_number(text: str, low: float, high: float) -> bool:
    try:
        return low <= float(text) <= high
    except ValueError:
        return False


def asked_images(paths: list[Path]) -> Iterator[tuple[Path, Any]]:
    """(path, RGB array or the sentence why it cannot be read) of every image in the files and folders.

    In a folder, an image of a format that is not read (HEIC, DICOM, …) and what is no file (a pipe, a link that leaves
    it) are said as well; what is no image is only named on stderr.
    """
    from derm_ml.data.sources.image_files import image_files
    from derm_ml.images.containers import ImageError
    from derm_ml.images.decode import IMAGE_EXTENSIONS, INGEST_FORMATS, decode, read_image_file
    from derm_ml.images.kinds import what_is
    from derm_ml.tree import files_below

    for path in paths:
        files = [path]
        if path.is_dir():
            tree = files_below(path)
            images, others = image_files(tree, deep=True)
            files = [path / name for name in images]
            yield from ((path / problem.file, problem.reason) for problem in (*tree.odd, *others))
            _name_others(path, tree, {*images, *(problem.file for problem in others)})
            if not files and not others and not tree.odd:
                yield path, f"there are no images in this folder ({', '.join(sorted(IMAGE_EXTENSIONS))})"
        for file in files:
            try:
                if (kind := what_is(file)).is_a == "other_image":
                    yield file, kind.reason
                    continue
                yield file, decode(read_image_file(file), INGEST_FORMATS)
            except FileNotFoundError:
                yield file, "there is no such file"
            except OSError as error:
                yield file, error.strerror or str(error)
            except ImageError as error:
                yield file, str(error)


def _name_others(folder: Path, tree: Tree, images: set[str]) -> None:
    """Name the files of a folder that are not asked about, by what they are."""
    from derm_ml.images.kinds import what_is

    groups: dict[str, list[str]] = {"hidden, or of the system": list(tree.passed)} if tree.passed else {}
    for file in tree.files():
        if file not in images:
            groups.setdefault(what_is(folder / file).what, []).append(file)
    for what, files in groups.items():
        more = f" and {len(files) - _NAMED} more" if len(files) > _NAMED else ""
        notes.print(f"{folder}: not asked about ({what}): {', '.join(files[:_NAMED])}{more}", soft_wrap=True)
