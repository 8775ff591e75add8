"""`make mlflow`: MLflow's own pages of the registry that is set, or where they are.

python -m derm_assets.mlflow_ui --port 5000
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from derm_assets.resources.model_registry import ModelRegistry
from derm_ml import DermError
from derm_ml.entrance import enter


def main() -> None:
    """Become `mlflow ui` on the database of the registry; a server has pages of its own."""
    try:
        enter()
        registry = ModelRegistry.from_environment()
        if registry.is_server:
            print(f"the registry is a server with pages of its own: {registry.reached()}")
            return
        print(registry.reached(), file=sys.stderr)
        # in the environment, as a password may stand in it
        os.environ |= {"MLFLOW_BACKEND_STORE_URI": registry.uri}
        program = Path(sys.executable).with_name("mlflow")
        os.execv(program, [str(program), "ui", "--host", "127.0.0.1", *sys.argv[1:]])
    except DermError as error:
        print(f"derm: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
