"""Where things lie: three folders, what lies where below them, and the settings that say so.

DERM_DATA  data    incoming/, raw/, prepared/, versions/; the folder it lies in is the DVC project
DERM_OUT   out     models, evaluations, reports: out/<task>/<recipe>-<id>/ (model_folder.py)
DERM_HOME  .home   the registry's database, the promotion ledger, the installation's secret, Dagster, BentoML

A setting is an environment variable, or a line of `.env` in the project's folder; a variable that is set already wins.
A relative path in a setting is taken from the project's folder; one that is typed as an argument, from the working
directory.
"""

from __future__ import annotations

import io
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from derm_ml import DermError

PROJECT = Path(__file__).resolve().parents[1]
ENV_FILE = PROJECT / ".env"  # the settings of this installation, where there is one
VARIABLES = {"data": "DERM_DATA", "out": "DERM_OUT", "home": "DERM_HOME"}
DEFAULTS = {"data": "data", "out": "out", "home": ".home"}
DAGSTER_HOME, BENTOML_HOME = "DAGSTER_HOME", "BENTOML_HOME"  # by default inside DERM_HOME
DAGSTER_STORAGE = "DERM_DAGSTER_STORAGE"  # a Postgres URL; empty: sqlite in DAGSTER_HOME
ARTIFACTS = "DERM_ARTIFACTS"  # where a registry that is a database keeps files: an address; empty: beside its own
SHARED = "DERM_SHARED"  # where ledger and models lie for other machines, an address; empty: in the folders below
DVC_REMOTE = "DERM_DVC_REMOTE"  # where DVC keeps prepared data for other machines; empty: nowhere
STREAM = "DERM_STREAM_GB"  # how much is kept of shards that stay in that remote; empty: datasets are brought whole
SLURM = "DERM_SLURM"  # what sbatch is told of a training besides: partition, memory, time
RAY = "DERM_RAY"  # what `ray job submit` is told of a training besides
KUBERNETES_JOB = "DERM_KUBERNETES_JOB"  # the manifest of a training's Job
CELERY = "DERM_CELERY"  # the file that Celery's workers are started with
RECORDS = "DERM_RECORDS"  # where services record their predictions; empty: nowhere
# the settings that hold a path
PATHS = (
    *VARIABLES.values(), DAGSTER_HOME, BENTOML_HOME,
    "DERM_SIGNING_KEY", "DERM_TRUSTED_KEYS", "DERM_TOKENS_FILE", "DERM_RUN", "DERM_SEGMENTER", RECORDS,
    KUBERNETES_JOB, CELERY,
)  # fmt: skip
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

Folder = Literal["data", "out", "home"]


class SettingsError(DermError, ValueError):
    """The file of settings cannot be read, or a line of it is no setting."""


def folder(name: Folder) -> Path:
    """The folder its environment variable names, absolute; a relative one is taken from the project's folder."""
    return setting_path(VARIABLES[name]) or PROJECT / DEFAULTS[name]


def setting_path(variable: str) -> Path | None:
    """The absolute path an environment variable holds; None where it is empty or not set."""
    given = os.environ.get(variable, "").strip()
    return _in_project(given) if given else None


def lesion_segmenter() -> Path | None:
    """The segmenter that says where lesions are when a classifier is probed (`DERM_SEGMENTER`), if one is set."""
    return setting_path("DERM_SEGMENTER")


def read_settings() -> None:
    """Complete this process's environment by the project's `.env`: what every entrance does first.

    Raises `SettingsError` naming file and line.
    """
    os.environ.update(environment())


def environment() -> dict[str, str]:
    """The environment, completed by the project's `.env`; its paths are absolute, so that they also hold for a process
    with another project folder, as a Bento has.

    Raises `SettingsError` naming file and line.
    """
    found = read_env_file(ENV_FILE) | os.environ
    paths = {name: str(_in_project(found[name].strip())) for name in PATHS if found.get(name, "").strip()}
    return found | paths


def read_env_file(path: Path) -> dict[str, str]:
    """The settings in a file of lines `NAME=value`, as Dagster reads them: comments, quotes, `export` and `${NAME}`.

    Empty where there is no file. Raises `SettingsError` naming file and line; it never repeats a value, which may be
    secret.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except UnicodeDecodeError:
        raise SettingsError(f"{path} is not UTF-8 text: save it as UTF-8") from None
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from None
    from dotenv.main import DotEnv  # Dagster's own reader; what is served has no such file and no need of it
    from dotenv.parser import parse_stream

    for line in parse_stream(io.StringIO(text)):
        number = line.original.line + _blank_lines_before(line.original.string)
        if line.error or (line.key is not None and (line.value is None or not _NAME.fullmatch(line.key))):
            raise SettingsError(f"{path}, line {number}: write NAME=value, and close every quote")
        if "\0" in (line.value or ""):
            raise SettingsError(f"{path}, line {number}: the value holds a null byte, which no variable can")
    settings = DotEnv(None, io.StringIO(text), override=False).dict()  # ${NAME}, too, is first what is set already
    return {name: value for name, value in settings.items() if value is not None}


def python_path() -> str:
    """PYTHONPATH for a process that works in another folder: this project first."""
    return os.pathsep.join(filter(None, (str(PROJECT), os.environ.get("PYTHONPATH", ""))))


@dataclass(frozen=True, slots=True)
class Installation:
    """The three folders of one installation, absolute, and what lies where below them."""

    data: Path
    out: Path
    home: Path

    # ------------------------------------------------------------------ data

    @property
    def dvc_project(self) -> Path:
        """The folder with dvc.yaml, dvc.lock and .dvc/."""
        return self.data.parent

    @property
    def params(self) -> Path:
        """Settings of data preparation: the DVC project's own, else the project's, which are copied there."""
        own = self.dvc_project / "params.yaml"
        return own if own.exists() else PROJECT / "params.yaml"

    @property
    def raw_folders(self) -> Path:
        """One folder a task, and one for what no task owns."""
        return self.data / "raw"

    def raw(self, task: str) -> Path:
        """The images as they were downloaded."""
        return self.raw_folders / task

    def weights(self, file: str) -> Path:
        """Where `derm fetch` puts the weights of a published network."""
        return self.raw_folders / "weights" / file

    def incoming(self, task: str) -> Path:
        """Where batches are delivered: one folder a batch."""
        return self.data / "incoming" / task

    def withdrawn(self, task: str) -> Path:
        """Where deliveries lie that were taken out of the raw folder again."""
        return self.data / "withdrawn" / task

    def prepared(self, task: str) -> Path:
        """The dataset as it is now."""
        return self.data / "prepared" / task

    def preparation_cache(self, task: str) -> Path:
        """What the last preparation computed of each image: removed, it is computed again."""
        return self.data / "cache" / f"{task}.sqlite"

    @property
    def streamed(self) -> Path:
        """Parts of shards that lie in DVC's remote: removed, they are fetched again."""
        return self.data / "cache" / "streamed"

    def answers_of_teacher(self, task: str, version: str) -> Path:
        """What a model of that version said of the images its students learn from: removed, it is asked again."""
        return self.data / "cache" / f"{task}-{version}.sqlite"

    def versions(self, task: str) -> Path:
        """The prepared datasets that never change, each named by its md5."""
        return self.data / "versions" / task

    def version(self, task: str, md5: str) -> Path:
        """The prepared dataset of that md5."""
        return self.versions(task) / md5.removesuffix(".dir")

    # ------------------------------------------------------------------- out

    def models(self, task: str) -> Path:
        """The model folders of a task, and what was made beside them."""
        return self.out / task

    def intake(self, task: str, batch: str) -> Path:
        """What became of a batch: its list of left-out files."""
        return self.models(task) / "incoming" / batch

    def data_audit(self, task: str) -> Path:
        """What deserves a look in the dataset as it was at the last audit."""
        return self.models(task) / "data_audit"

    def comparison(self, task: str) -> Path:
        """The last comparison of models of a task."""
        return self.models(task) / "comparison"

    def beside_champion(self, task: str, version: str) -> Path:
        """A candidate compared with the champion, by the candidate's version, as its promotion saw them."""
        return self.models(task) / "beside_champion" / version

    def predicted(self, task: str) -> Path:
        """What `derm predict` draws."""
        return self.models(task) / "predicted"

    @property
    def explained(self) -> Path:
        """What `derm explain` draws."""
        return self.out / "explained"

    def again(self, task: str, version: str) -> Path:
        """What is made later of a model, by its version: of a registered one the model folder may be gone."""
        return self.models(task) / "again" / version

    # ------------------------------------------------------------------ home

    def ledger(self, task: str) -> Path:
        """The promotion ledger."""
        return self.home / "ledger" / f"{task}.jsonl"

    def release(self, task: str) -> Path:
        """The file that says which Bento of a task is released."""
        return self.home / "serving" / f"{task}.json"

    def challenger(self, task: str) -> Path:
        """The file that says which Bento of a task is asked unseen, beside the released one."""
        return self.home / "serving" / f"{task}.challenger.json"

    def trial(self, task: str, challenger: str, champion: str) -> Path:
        """What a silent trial of one model against another has shown."""
        return self.models(task) / "trials" / f"{challenger}_{champion}"

    @property
    def answered(self) -> Path:
        """Records of what services answered, where DERM_RECORDS names no other folder."""
        return self.home / "answered"

    @property
    def registry(self) -> Path:
        """The registry's own database and the files it stores, where no server is named."""
        return self.home / "mlflow"

    def fetched(self, run_id: str) -> Path:
        """What was fetched of a run from a registry's server."""
        return self.home / "fetched" / run_id

    @property
    def dvc_site(self) -> Path:
        return self.home / "dvc-site"

    @property
    def dagster(self) -> Path:
        """Dagster's instance, where DAGSTER_HOME names no other folder."""
        return self.home / "dagster"

    @property
    def dagster_log(self) -> Path:
        """What Dagster says when `make demo` starts it."""
        return self.home / "dagster.log"

    @property
    def bentos(self) -> Path:
        """BentoML's models and Bentos, where BENTOML_HOME names no other folder."""
        return self.home / "bentoml"


def installation() -> Installation:
    """The installation the environment names, by default the project's own."""
    return Installation(folder("data"), folder("out"), folder("home"))


def _in_project(path: str) -> Path:
    return PROJECT / Path(path).expanduser()


def _blank_lines_before(statement: str) -> int:
    """The parser counts the empty lines before a statement as its own."""
    return statement[: len(statement) - len(statement.lstrip())].count("\n")


if __name__ == "__main__":  # `python -m derm_ml.places home`: for a Makefile or a script
    try:
        read_settings()
        print(getattr(installation(), sys.argv[1]))
    except DermError as error:
        print(f"derm: {error}", file=sys.stderr)
        sys.exit(2)
