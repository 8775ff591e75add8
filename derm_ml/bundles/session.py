"""One graph in ONNX Runtime: opened once, asked by several threads, on the cores and the provider that are wanted.

    session = Session(bundle.model)
    (logits,) = session.run(["logits"], {"image": squares})

Every graph of the project runs here. No torch is needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import numpy as np
import onnxruntime as ort
import onnxruntime.capi.onnxruntime_pybind11_state as ort_errors  # pyright: ignore[reportMissingImports]  compiled

from derm_ml.bundles.bundle import BundleError
from derm_ml.bundles.providers import CPU, PROVIDER, ProviderError, chosen_provider, short_name, with_options
from derm_ml.bundles.views import VIEWS
from derm_ml.images.settings import Views

# what ONNX Runtime raises for a graph it cannot load or run; they share no base but Exception
_GRAPH_ERRORS = (
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
)
TOGETHER = 16  # squares in one run of the graph: more only takes memory, fewer leave cores idle between runs


@dataclass(frozen=True, slots=True)
class Cores:
    """How ONNX Runtime uses the cores. Which is fastest depends on network and machine: `serving/sessions.py` measures.

    `spinning`: its threads wait for work by trying again and again, which is faster alone and slower beside others.
    `apart`: a call that meets another one under way runs on one core only, so that two calls do not share every core.
    """

    spinning: bool = True
    apart: bool = False


class Session:
    """A graph file, open. Thread-safe: ONNX Runtime sessions are, and nothing here changes but a count.

    `threads`: how many cores one call may use, 0 for all.
    Raises `BundleError` for a graph that cannot be loaded, `ProviderError` for a provider that is not there.
    """

    def __init__(self, model: Path, threads: int = 0) -> None:
        self.model = model
        self._single: ort.InferenceSession | None = None
        self._under_way = 0
        self._counting = Lock()
        self._all = self._opened(threads, Cores())

    @property
    def provider(self) -> str:
        """Where the graph runs: `cpu`, `cuda`, …"""
        return short_name(self._all.get_providers()[0])

    @property
    def outputs(self) -> tuple[str, ...]:
        """What the graph gives, by name."""
        return tuple(output.name for output in self._all.get_outputs())

    def use(self, cores: Cores) -> None:
        """Use the cores in this way from now on. Not while it runs."""
        self._all = self._opened(0, cores)
        self._single = self._opened(1, cores) if cores.apart else None

    def run(self, outputs: Sequence[str], inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """The named outputs for the named inputs."""
        with self._counting:
            session = self._single if self._single and self._under_way else self._all
            self._under_way += 1
        try:
            return [np.asarray(found) for found in session.run(list(outputs), dict(inputs))]
        finally:
            with self._counting:
                self._under_way -= 1

    def run_views(
        self, outputs: Sequence[str], squares: np.ndarray, views: Views, beside: Mapping[str, np.ndarray]
    ) -> list[list[np.ndarray]]:
        """The outputs for each view of the squares (N, S, S, 3) uint8, all in one run where they are few.

        `beside` are the inputs (N, …) beside the image: the same for every view. Nothing is turned back.
        """
        seen = [np.ascontiguousarray(do(squares)) for do, _ in VIEWS[views]]
        n = len(squares)
        if n * len(seen) > TOGETHER:
            return [self.run(outputs, {"image": view, **beside}) for view in seen]
        repeated = {name: np.concatenate([values] * len(seen)) for name, values in beside.items()}
        found = self.run(outputs, {"image": np.concatenate(seen), **repeated})
        return [[output[n * k : n * (k + 1)] for output in found] for k in range(len(seen))]

    def _opened(self, threads: int, cores: Cores) -> ort.InferenceSession:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads  # 0: all cores
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", str(int(cores.spinning)))
        provider = chosen_provider()
        model, wanted = str(self.model), with_options(provider)
        if short_name(provider) == CPU:
            with graph_errors(self.model):
                return ort.InferenceSession(model, sess_options=options, providers=wanted)
        try:  # without the fallback ONNX Runtime would make, which it tells nobody but the terminal
            session = ort.InferenceSession(model, sess_options=options, providers=wanted, enable_fallback=0)
        except (*_GRAPH_ERRORS, ValueError, RuntimeError) as error:
            raise _not_started(provider, str(error)) from error
        if session.get_providers()[0] != provider:  # it is compiled in, but a library of it cannot be loaded
            raise _not_started(provider, "a library of it cannot be loaded")
        return session


def _not_started(provider: str, why: str) -> ProviderError:
    return ProviderError(
        f"{PROVIDER}={short_name(provider)}: ONNX Runtime cannot use it here: {why}; "
        f"install its driver and libraries, or set {PROVIDER}={CPU}"
    )


@contextmanager
def graph_errors(model: Path) -> Iterator[None]:
    """Inside, what ONNX Runtime raises for a graph it cannot load or run is a `BundleError`."""
    try:
        yield
    except _GRAPH_ERRORS as error:
        raise BundleError(f"{model}: the graph cannot be run: {error}") from error
