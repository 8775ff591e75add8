"""What a service counts beside BentoML's own traffic metrics, under `derm_<task>_…` at `/metrics`.

No label holds anything a client sent: labels are those of the model, reasons are words of this package.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from derm_ml.bundles import providers

if TYPE_CHECKING:
    from prometheus_client import Counter, Gauge, Histogram

SCORES = tuple(round(0.05 * n, 2) for n in range(1, 21))
# differences of a challenger's numbers: from what rounding makes to a different opinion
DIFFERENCES = (1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0)


class Metrics:
    """The metrics of one service. Made when first used: `prometheus_client` reads where to write when it is imported,
    which the server sets after this package was."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace

    @cached_property
    def refusals(self) -> Counter:
        """`status`, `reason`: requests that got no answer, and why."""
        return self._counter("refusals", "Requests refused, by status and reason", "status", "reason")

    @cached_property
    def swaps(self) -> Counter:
        """`outcome`: `switched`, `refused`, `restart_needed` or `withdrawn`; in a suite also `loaded` and `let_go`."""
        return self._counter("releases", "Releases met while running, by outcome", "outcome")

    @cached_property
    def scores(self) -> Histogram:
        """`label`, `model_version`: the numbers of the answers."""
        return self._histogram("score", "Numbers of the answers, by label", SCORES, "label", "model_version")

    @cached_property
    def differences(self) -> Histogram:
        """`model_version`, `challenger`: the largest difference of any number of an answer."""
        said = "Largest difference between the answers of model and challenger"
        return self._histogram("shadow_difference", said, DIFFERENCES, "model_version", "challenger")

    @cached_property
    def shadowed(self) -> Counter:
        """`outcome`: `same_decision`, `other_decision`, `failed`, or `skipped` while the service was busy."""
        return self._counter("shadow", "Requests the challenger was asked too, by outcome", "outcome")

    @cached_property
    def recorded(self) -> Counter:
        """`outcome`: `written`, or `failed` where the disk was full; counted only where predictions are recorded."""
        return self._counter("records", "Prediction records, by outcome", "outcome")

    @cached_property
    def abstained(self) -> Counter:
        """`reason`, `model_version`: answers without a decision, because the image is not fit for the model."""
        return self._counter("abstained", "Answers without a decision, by reason", "reason", "model_version")

    @cached_property
    def waiting(self) -> Gauge:
        return self._gauge("waiting", "Images that wait for their turn")

    def serves(self, model_version: str, bento: str) -> None:
        """The model that answers from now on: 1 for it, 0 for the ones before."""
        self.serves_none()
        labels = (model_version, bento, version("bentoml"), providers.VERSION)
        self._served.add(labels)
        self._build.labels(*labels).set(1)

    def serves_none(self) -> None:
        """No model answers any more."""
        for labels in self._served:
            self._build.labels(*labels).set(0)

    def answered(self, numbers: Mapping[str, float], model_version: str) -> None:
        """Count the numbers of an answer. Those of single boxes and matches, whose names have a dot, are too many."""
        for label, number in numbers.items():
            if "." not in label:
                self.scores.labels(label, model_version).observe(number)

    def abstains(self, quality: str, model_version: str) -> None:
        """Count an answer without a decision: for the quality of its image or, where that is sufficient, its kind."""
        self.abstained.labels("unlike" if quality == "sufficient" else quality, model_version).inc()

    @cached_property
    def _served(self) -> set[tuple[str, ...]]:
        return set()

    @cached_property
    def _build(self) -> Gauge:
        named = ("model_version", "bento", "bentoml", "onnxruntime")
        return self._gauge("build_info", "1 for the model that answers, with its versions", *named)

    def _counter(self, name: str, said: str, *labels: str) -> Counter:
        from prometheus_client import Counter

        return self._made(Counter, name, said, labels)

    def _gauge(self, name: str, said: str, *labels: str) -> Gauge:
        from prometheus_client import Gauge

        return self._made(Gauge, name, said, labels, multiprocess_mode="livemostrecent")

    def _histogram(self, name: str, said: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        from prometheus_client import Histogram

        return self._made(Histogram, name, said, labels, buckets=buckets)

    def _made(self, kind: Callable[..., Any], name: str, said: str, labels: tuple[str, ...], **options: object) -> Any:
        return kind(name, said, labels, namespace=self.namespace, **options)


class TaskMetrics(Metrics):
    """The metrics of one task of a suite: those of a service, with the label `task` before the others.

    `made` holds what all tasks of the suite count in, by name.
    """

    def __init__(self, namespace: str, task: str, made: dict[str, Any]) -> None:
        super().__init__(namespace)
        self.task = task
        self.made = made

    def _made(self, kind: Callable[..., Any], name: str, said: str, labels: tuple[str, ...], **options: object) -> Any:
        if name not in self.made:
            self.made[name] = super()._made(kind, name, said, ("task", *labels), **options)
        return _OfTask(self.made[name], self.task) if labels else self.made[name].labels(self.task)


class _OfTask:
    """A metric whose first label is known."""

    def __init__(self, metric: Any, task: str) -> None:
        self.metric = metric
        self.task = task

    def labels(self, *values: object) -> Any:
        return self.metric.labels(self.task, *values)
