"""What a champion must show: one declarative file a task, `derm_ml/tasks/<task>/policy.yaml`.

Gates, promotion and the service read it; light enough for all three.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Annotated, Literal, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from derm_ml import DermError, formats
from derm_ml.asking.options import PREVALENCE, AskingError
from derm_ml.asking.prevalence import PrevalenceError
from derm_ml.data.licences import Target
from derm_ml.task import Settings

if TYPE_CHECKING:
    from derm_ml.bundles.bundle import BundleCard
    from derm_ml.task import Task

Share = Annotated[float, Field(gt=0, lt=1)]


class PolicyError(DermError, RuntimeError):
    """A task has no policy, or one that cannot be read."""


class External(Settings):
    """The set that a candidate is validated on before it is promoted: one that no model of the task was made with."""

    name: str = Field(min_length=1, description="what people call it")
    dataset: str = Field(
        pattern=r"^[0-9a-f]{32}(\.dir)?$",
        description="its md5, as `derm prepare TASK --raw FOLDER --out FOLDER` says it",
    )
    at_least: float = Field(description="the primary metric on its test split must be at least this")
    patients: int = Field(30, ge=2, description="fewest patients of that split")


class Policy(Settings):
    """What a champion must show, beside green checks. Compared is the task's primary metric."""

    floor: float = Field(description="the primary metric must be at least this")
    margin: float = Field(0.0, ge=0, description="and exceed the champion's by more than this")
    worse_by: float | None = Field(
        None,
        ge=0,
        description="test of non-inferiority, with this margin: the lower end of the paired 95 % interval of the "
        "difference to the champion must lie above minus this; it does not prove the candidate better",
    )
    superiority: bool | None = Field(
        None, description="test of superiority: that lower end must lie above 0; the test unless `worse_by` is given"
    )
    patients: int = Field(
        30, ge=2, description="fewest patients of the test split whose resampling may decide between two models"
    )
    repeated: int = Field(
        32,
        ge=1,
        description="test cases predicted again at promotion, drawn anew each time: 32 find an edit of 10 % of "
        "the predictions in 97 of 100 promotions",
    )
    tolerance: float = Field(
        1e-3,
        gt=0,
        lt=0.1,
        description="how far a number predicted again may lie from the stored one (times 1 + its size): "
        "another machine's kernels round differently",
    )
    trial_patients: int | None = Field(
        None,
        ge=2,
        description="fewest patients (or images, where no patient is known) of a silent trial beside the champion, "
        "which must pass the same paired test; null: a promotion needs none",
    )
    external: External | None = Field(
        None, description="validation on a set from elsewhere that a promotion asks for; null: it asks for none"
    )
    target: Target = Field(
        "research",
        description="what the model is for: `commercial` refuses images whose licences do not allow that",
    )
    prevalence: Share | dict[str, Share] | None = Field(
        None,
        description="how often the labels occur where the model is used: of one label its share, of several "
        "`{label: share}`; answers of `derm predict` and of the service are corrected to it, the Bento takes it along",
    )
    operating_point: str = Field("balanced", description="where the service decides if it is not asked for another")
    recall_bound: float | None = Field(None, gt=0, le=1, description="lower bound of the recall at that point")
    specificity: float | None = Field(None, ge=0, le=1, description="least specificity at that point")
    calibration_error: float | None = Field(None, ge=0, le=1, description="largest ECE beyond chance (warns)")

    @model_validator(mode="after")
    def _one_test(self) -> Self:
        if self.superiority is (self.worse_by is not None):
            raise ValueError(
                "a policy asks for one paired test against the champion: superiority: true, or worse_by with the "
                "margin of a test of non-inferiority"
            )
        return self

    @property
    def least_difference(self) -> float:
        """What the lower end of the paired interval must lie above."""
        return 0.0 if self.worse_by is None else -self.worse_by

    shortcut: float = Field(
        0.5,
        ge=0,
        description="largest shortcut score: the share of the AUC above chance that needs no lesion",
    )
    subgroup_floor: float | None = Field(
        None, ge=0, le=1, description="no subgroup's AUC may be shown to lie below this (the upper end of its interval)"
    )
    subgroup_gap: float | None = Field(
        None, ge=0, le=1, description="largest difference in AUC between two subgroups of an attribute (warns)"
    )
    stress_drop: float = Field(
        0.1, ge=0, le=1, description="largest loss of the primary metric by hair, ink, blur and the like (warns)"
    )
    unfaithful: Literal["warns", "refuses"] = Field(
        "warns", description="what heatmaps that do not show what the model decides by do to a promotion"
    )

    @classmethod
    def of(cls, task: Task | str) -> Policy:
        """The policy of a task. Raises `PolicyError` if its file is missing or not readable."""
        name = task if isinstance(task, str) else task.name
        path = files(f"derm_ml.tasks.{name}") / "policy.yaml"
        try:
            return _parsed(path.read_text(encoding="utf-8"), str(path))
        except FileNotFoundError:
            raise PolicyError(f"{path} is missing: write the floor a champion must reach into it") from None


@lru_cache
def _parsed(text: str, path: str) -> Policy:
    """A policy file's text, parsed once: every answer of a screening model asks for it."""
    try:
        return Policy(**formats.POLICY.read(yaml.safe_load(text), path, PolicyError))
    except (ValidationError, TypeError, yaml.YAMLError) as error:
        raise PolicyError(f"{path}: {error}") from error


def stated_prevalence(task: Task, card: BundleCard) -> dict[str, str]:
    """The option that a task's policy gives to every question about it; empty where it states no prevalence.

    Raises `PrevalenceError` for one that the model cannot use: answers that are not corrected would pass for corrected.
    """
    said = Policy.of(task).prevalence
    if said is None:
        return {}
    if PREVALENCE.name not in task.asking.known:
        raise PrevalenceError(f"policy.yaml: {task.name} gives no probabilities that could be corrected; remove it")
    shares = said.items() if isinstance(said, dict) else ()
    text = ",".join(f"{label}:{share:.6g}" for label, share in shares) or f"{said:.6g}"
    try:
        return {PREVALENCE.name: PREVALENCE.read(text, card)}
    except AskingError as error:
        raise PrevalenceError(f"policy.yaml of {task.name}: {error}") from None
