"""Every format on disk: its name, the version written today, and how an older version is read.

    write_json(path, DATASET.stamped({"task": …}))           the file says `schema_version`
    info = DATASET.read(stored, path, DataError)             as today's version, whatever version the file has

A file of a version that this program does not know is refused with a sentence that names the file, both versions and
what to do. Formats that said no version at first count as version 1 where a file says none.

To change a format: raise its version here, add the step from the version before, describe the change in the table of
CHANGELOG.md, and keep files of the old version below tests/fixtures; tests/test_formats.py opens them all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from derm_ml import DermError

VERSION = "schema_version"
Content = dict[str, Any]
_SHOWN = 20  # characters of what stands in place of a version that are repeated


@dataclass(frozen=True, slots=True)
class Format:
    """One kind of file. `steps` brings the content of a version to the next one: {1: from 1 to 2}.

    A version below the lowest of `steps` is no longer read. `again` says how such a file is made anew.
    """

    name: str
    version: int
    again: str
    steps: Mapping[int, Callable[[Content], Content]] = field(default_factory=dict)

    @property
    def readable(self) -> range:
        """The versions that are read."""
        oldest = self.version
        while oldest - 1 in self.steps:
            oldest -= 1
        return range(oldest, self.version + 1)

    def stamped(self, content: Mapping[str, Any]) -> Content:
        """What is written: `content` with today's version in front."""
        return {VERSION: self.version, **content}

    def read(self, stored: Any, path: object, error: type[DermError], again: str = "") -> Content:
        """The content of a file as today's version, without the version.

        `stored` is what JSON or YAML gave. Raises `error`, which names `path`, for a version that is not read and for
        what holds no names at all. `again` replaces the format's own advice.
        """
        if not isinstance(stored, Mapping):
            raise error(f"{path} is not readable in the {self.name} format: {again or self.again}")
        version = stored.get(VERSION, 1)
        self.check(version, path, error, again)
        content = {name: value for name, value in stored.items() if name != VERSION}
        for step in range(version, self.version):
            content = self.steps[step](content)
        return content

    def check_text(self, version: str | None, path: object, error: type[DermError]) -> None:
        """As `check`, for a file whose header holds text alone; None: it says no version."""
        self.check(int(version) if version and version.isdecimal() else version or 1, path, error)

    def check(self, version: object, path: object, error: type[DermError], again: str = "") -> None:
        """Raises `error`, which names `path`, for a version that is not read."""
        if type(version) is int and version in self.readable:  # True is no version
            return
        oldest = self.readable[0]
        reads = f"version {oldest}" if oldest == self.version else f"versions {oldest} to {self.version}"
        newer = "install a newer version of derm, or " if type(version) is int and version > self.version else ""
        raise error(
            f"{path} has version {str(version)[:_SHOWN]} of the {self.name} format, this program reads {reads}: "
            f"{newer}{again or self.again}"
        )


def _one_sentence(content: Content) -> Content:
    """To a version that says that it is for research use in the same field as everything else."""
    return {"research_use" if name == "note" else name: value for name, value in content.items()}


def _without_author(content: Content) -> Content:
    """To a version that also records labels that a person has corrected."""
    corrections = [{"target": {}, "remark": "", **correction} for correction in content["corrections"]]
    return {**content, "corrections": corrections, "author": "", "date": ""}


def _without_mark_and_tiles(content: Content) -> Content:
    """To a version that also says whether its images are synthetic (of before only the recipe's name tells it), and
    that holds sheets of images as tiles too."""
    return {**content, "synthetic": False, "sheets": {}}


def _not_reviewed(content: Content) -> Content:
    """To a version that also says who reviewed the images."""
    return {**content, "reviewed_by": ""}


NO_DIFFERENCE = "no difference shown"  # of two models: the interval of the difference holds 0


def _no_difference(content: Content) -> Content:
    """To a version that calls such a verdict `no difference shown`."""
    rows = [
        {**row, "verdict": NO_DIFFERENCE} if row.get("verdict") == "not told apart" else row for row in content["rows"]
    ]
    return {**content, "rows": rows}


# 2: describes what its graphs take and give; 3: may hold an input gate; 4: may say that its graph is quantised;
# 5: may say that it was fitted on local cases; 6: may name the teacher whose answers were learned
BUNDLE = Format("bundle", 6, "train the model again", {1: _one_sentence, 2: dict, 3: dict, 4: dict, 5: dict})
# 2: judges the embedding as it is, too; a program of before would judge without it, by a threshold that counts it
INPUT_GATE = Format("input-gate", 2, "train the model again", {1: dict})
LEARNED = Format("learned-from", 1, "train the model again")
# 2: may hold a split `recent`, which a program that does not know it would deal to training
DATASET = Format("dataset", 2, "run `derm prepare` again", {1: dict})
# 2: names of columns, see its reader; 3: intervals of docs/intervals.md: promotion measures older ones again;
# 4: says whether its images are synthetic, holds sheets of images as tiles, and figures of harder pairs
EVALUATION = Format("evaluation", 4, "run `derm evaluate` again", {1: dict, 2: dict, 3: _without_mark_and_tiles})
MEASURED_AS_TODAY = 4  # evaluations from this version on hold the metrics that are measured today
COMPARISON = Format("comparison", 3, "run `derm compare` again", {1: _one_sentence, 2: _no_difference})
# 2: with the image statistics that the input gate judges; a table without them is predicted again by who needs them
PREDICTIONS = Format("predictions", 2, "remove the file, and the images are predicted again", {1: dict})
EMBEDDINGS = Format("embeddings", 1, "remove the file, and it is computed again")
SIMILAR_IMAGES = Format("similar-images", 3, "make the index again", {2: _one_sentence})  # 1 held names of patients
PSEUDO_LABELS = Format("pseudo-labels", 1, "run `derm pseudo-label` again")
# 2: a kept network that is the last epoch's own is not written twice
CHECKPOINT = Format("checkpoint", 2, "remove it, and training begins anew", {1: dict})
# beside a model and an evaluation: when, by whom and on what machine; neither is another for it
# 2: may name the teacher of the model; 3: may say that its images were streamed
PROVENANCE = Format("provenance", 3, "remove the file; what it says is then not recorded", {1: dict, 2: dict})
JOB = Format("training-job", 1, "start the training again")
DELIVERY = Format("delivery", 3, "withdraw the delivery and deliver it again", {1: _without_author, 2: _not_reviewed})
LEDGER = Format("ledger", 1, "leave the ledger to the version that wrote it")  # a repair would begin a new one
# the list of files that a hash in a shared place names
SHARED_CONTENTS = Format("shared-contents", 1, "materialise again what it lists, on the machine that made it")
CHALLENGER = Format("challenger", 1, "begin the trial again")
TRIAL = Format("trial", 1, "run `derm trial` again")
RELEASE = Format("release", 1, "release the Bento again")
GOLDEN = Format("golden-answers", 1, "build the Bento again")
SESSIONS = Format("sessions", 1, "build the Bento again")
POLICY = Format("policy", 1, "write it as docs/promotion.md says")
# 2: says whether an answer was sent, or was that of a challenger nobody saw
ANSWERED = Format(
    "prediction-records", 2, "move the file away; the service begins another", {1: lambda c: {**c, "role": "served"}}
)
CARD_STATEMENT = Format("card-statement", 1, "write it as docs/cards.md says")
CARD = Format("card", 1, "register the model again")

FORMATS: Mapping[str, Format] = {value.name: value for value in dict(globals()).values() if isinstance(value, Format)}
