"""Where the hash of the last line of a promotion ledger is kept outside its file: a tag of the registered model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from derm_assets.resources.model_registry import ModelRegistry

HEAD = "ledger_head"  # the tag


@dataclass(frozen=True, slots=True)
class HeadTag:
    """The hash of a ledger's last line, as a tag of the registered model."""

    registry: ModelRegistry
    name: str

    def read(self) -> str | None:
        if not self.registry.begun:
            return None
        from mlflow.exceptions import MlflowException

        try:
            return self.registry.client.get_registered_model(self.name).tags.get(HEAD)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None

    def write(self, heads: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self.registry.client.set_registered_model_tag(self.name, HEAD, heads)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            self.registry.client.create_registered_model(self.name)  # a registry that lost its database
            self.registry.client.set_registered_model_tag(self.name, HEAD, heads)
