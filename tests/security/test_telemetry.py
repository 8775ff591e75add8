"""No entry tells anybody that it runs: each dependency is asked itself, in a fresh interpreter without settings.

`make` and `.env` set the same; who starts `derm`, a code location or a Bento in another way must be as private.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
ASK = """
import json, os
import derm_ml
import dagster_shared.telemetry, dagster._core.telemetry_upload as upload
import bentoml._internal.utils.analytics.usage_stats as bento
import dvc.analytics, mlflow.telemetry.utils
with upload.uploading_logging_thread():
    import threading
    uploading = [t.name for t in threading.enumerate() if "telemetry" in t.name]
print(json.dumps({
    "dagster uploads": bool(uploading),
    "mlflow": not mlflow.telemetry.utils.is_telemetry_disabled(),
    "bentoml": not bento.do_not_track(),
    "dvc": dvc.analytics.is_enabled(),
    "albumentations": not os.environ.get("NO_ALBUMENTATIONS_UPDATE"),
}))
"""
CONTRARY = {"MLFLOW_DISABLE_TELEMETRY": "false", "BENTOML_DO_NOT_TRACK": "False", "DVC_NO_ANALYTICS": ""}


def fresh(code: str, home: Path, **environment: str) -> str:
    """What a program prints in an environment that says nothing but where it may write."""
    quiet = {"PATH": "/usr/bin:/bin", "HOME": str(home), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=quiet | environment, cwd=home, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


@pytest.mark.parametrize("environment", [{}, CONTRARY], ids=["nothing said", "switched on"])
def test_every_dependency_says_itself_that_it_is_quiet(tmp_path, environment):
    answers = json.loads(fresh(ASK, tmp_path, **environment))
    assert not any(answers.values()), answers


@pytest.mark.parametrize(
    "entry", ["derm_ml.cli", "derm_assets.definitions", "derm_assets.webserver", "serving.build", "serving.__main__"]
)
def test_every_entry_is_quiet_before_it_imports_a_framework(tmp_path, entry):
    """BentoML and albumentations decide once, when they are first asked or imported: later is too late."""
    watched = f"""
import builtins, importlib, os, sys
loud, plain = [], builtins.__import__
def watching(name, *rest):
    if name.partition(".")[0] in ("dagster", "mlflow", "bentoml", "dvc", "albumentations") and name not in sys.modules:
        loud.extend(["imported " + name] if os.environ.get("DO_NOT_TRACK") != "true" else [])
    return plain(name, *rest)
builtins.__import__ = watching
importlib.import_module("{entry}")
print(loud)
"""
    assert fresh(watched, tmp_path) == "[]"


def test_every_benchmark_imports_the_library():
    """They start Dagster and training too."""
    for path in sorted((ROOT / "benchmarks").glob("*.py")):
        found = {
            (node.module or "").partition(".")[0]
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.ImportFrom)
        }
        plain = path.name == "plain_script.py"  # torch and nothing else, to be compared with
        assert plain or found & {"derm_ml", "derm_assets", "serving"}, path


def test_the_image_of_a_service_is_quiet():
    """In a container `bentoml serve` asks its environment before it imports the service."""
    tree = ast.parse((ROOT / "serving" / "build.py").read_text(encoding="utf-8"))
    call = next(n for n in ast.walk(tree) if isinstance(n, ast.Call) and ast.unparse(n.func) == "bentoml.build")
    assert "derm_ml.TELEMETRY_OFF" in ast.unparse(next(k.value for k in call.keywords if k.arg == "docker"))
