"""Where graphs run: on the CPU, or on what `DERM_PROVIDER` names, as far as the installed ONNX Runtime has it."""

from __future__ import annotations

import os
from importlib.metadata import packages_distributions

import onnxruntime as ort

from derm_ml.sentences import WrongValue

PROVIDER = "DERM_PROVIDER"
CPU = "cpu"
VERSION: str = ort.__version__
_SUFFIX = "ExecutionProvider"
_ELSEWHERE = "AzureExecutionProvider"  # in every build: it would send images to a cloud
# TensorFloat-32 would round each factor to 10 bits: answers would differ from the CPU's in the third digit
_OPTIONS = {"CUDAExecutionProvider": {"use_tf32": "0"}}


class ProviderError(WrongValue):
    """The execution provider that is set cannot be used on this machine."""


def chosen_provider() -> str:
    """The execution provider the environment asks for, by the name ONNX Runtime gives it: `CPUExecutionProvider`.

    Raises `ProviderError` for one that the installed ONNX Runtime lacks.
    """
    wanted = os.environ.get(PROVIDER, "").strip().lower() or CPU
    there = {short_name(name): name for name in ort.get_available_providers() if name != _ELSEWHERE}
    if wanted not in there:
        raise ProviderError(
            f"{PROVIDER}={wanted}: the installed ONNX Runtime has {', '.join(sorted(there))}; "
            "choose one of them, or install a build of onnxruntime that has the other"
        )
    return there[wanted]


def short_name(provider: str) -> str:
    """`CUDAExecutionProvider` → `cuda`."""
    return provider.removesuffix(_SUFFIX).lower()


def with_options(provider: str) -> list[tuple[str, dict[str, str]]]:
    """What a session is opened with: the provider, then the CPU for what it cannot run."""
    names = dict.fromkeys((provider, f"CPU{_SUFFIX}"))
    return [(name, _OPTIONS.get(name, {})) for name in names]


def installed_package() -> str:
    """The installed package that holds ONNX Runtime: `onnxruntime`, `onnxruntime-gpu`, …"""
    return packages_distributions()[ort.__name__][0]
