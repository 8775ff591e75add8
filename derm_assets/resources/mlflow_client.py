"""MLflow's client, each call of which says in one sentence why the registry cannot be reached.

What MLflow answers ("there is no such run") stays its own exception. What is no answer (a locked database, a server
that is down, a driver that is missing) becomes a `RegistryError` that names the registry, the reason and the remedy.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from derm_ml import DermError
from derm_ml.places import VARIABLES

if TYPE_CHECKING:
    from mlflow import MlflowClient

# MLflow's codes for "no answer", as opposed to an answer such as "there is no such run"
_ABSENT = ("TEMPORARILY_UNAVAILABLE", "INTERNAL_ERROR", "BAD_REQUEST", "PERMISSION_DENIED", "UNAUTHENTICATED")
# what databases and clients say → what it means, what to do
_REASONS = {
    "database is locked": ("another program keeps its database locked", "end that program or wait for it"),
    "unable to open database": ("its folder cannot be opened", f"check {VARIABLES['home']} and who may write there"),
    "readonly database": ("its file is read-only", "let this user write it"),
    "disk is full": ("the disk is full", "make room"),
    "No space left": ("the disk is full", "make room"),
    "file is not a database": ("its file is no database, or is damaged", "put a backup in its place"),
    "is malformed": ("its file is damaged", "put a backup in its place"),
    "API request to": ("no server answers there", "start it, or correct MLFLOW_TRACKING_URI"),
    "onnection refused": ("no database answers there", "start it, or correct MLFLOW_TRACKING_URI"),
    "No module named 'boto3'": ("the client of S3 is not installed", "pip install 'derm-platform[s3]'"),
    "No module named 'psycopg2'": ("the driver of Postgres is not installed", "pip install 'derm-platform[postgres]'"),
    "No module named": ("the driver of that database is not installed", "install it, or correct MLFLOW_TRACKING_URI"),
    "Permission denied": ("this user may not write its files", "give the user that right"),
    "out-of-date database schema": ("its tables are of an earlier MLflow", "run `mlflow db upgrade` on it"),
}


class RegistryError(DermError, RuntimeError):
    """The registry cannot be reached, or does not hold what it was asked for."""


def reachable_client(uri: str, where: str) -> MlflowClient:
    """MLflow's client, each call of which says in one sentence why a registry cannot be reached."""
    from mlflow import MlflowClient

    class Client(MlflowClient):
        def __getattribute__(self, name: str) -> Any:
            found = super().__getattribute__(name)
            if name.startswith("_") or not callable(found):
                return found

            @functools.wraps(found)
            def told(*arguments: Any, **named: Any) -> Any:
                with _reached(where):
                    return found(*arguments, **named)

            return told

    with _reached(where):
        return Client(tracking_uri=uri, registry_uri=uri)


@contextmanager
def _reached(where: str) -> Iterator[None]:
    """Ask the registry inside: what is not its answer but its absence becomes a `RegistryError`."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except MlflowException as error:
        if error.error_code not in _ABSENT:
            raise
        raise RegistryError(_unreached(where, error)) from error
    except (SQLAlchemyError, OSError, ImportError) as error:  # ImportError: the driver of a database's address
        raise RegistryError(_unreached(where, error)) from error


def _unreached(where: str, error: Exception) -> str:
    said = str(error).splitlines()[0]
    reason, remedy = next(
        (told for text, told in _REASONS.items() if text in str(error)),
        (f"it answered '{said[:200]}'", "see that it runs and can be written"),
    )
    return f"the model registry {where} cannot be used: {reason}; {remedy}, then run this again"
