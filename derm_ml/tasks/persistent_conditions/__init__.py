"""The task persistent_conditions; a type checker compares its modules with derm_ml/contract.py."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from derm_ml.contract import Modules
    from derm_ml.tasks.persistent_conditions import data, evaluate, predict, train

    MODULES = Modules(data, train, evaluate, predict)
