"""The resources every line shares, as the environment sets them (.env.example), and how a run is executed."""

from __future__ import annotations

import dagster as dg

from derm_assets.resources.data_store import DataStore
from derm_assets.resources.model_registry import open_registry
from derm_assets.resources.places import Places
from derm_assets.resources.trainer import Trainer


@dg.definitions
def outside() -> dg.Definitions:
    places = Places.from_environment()
    return dg.Definitions(
        resources={
            "places": places,
            "store": DataStore(places=places),
            "trainer": Trainer(),
            "registry": open_registry(),
        },
        # one process a run: a process a step costs some 8 s of start each, and a line is straight anyway
        executor=dg.in_process_executor,
    )
