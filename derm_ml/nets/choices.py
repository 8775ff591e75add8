"""The networks and starts there are, by name. Light to import: recipes and forms are made from them."""

from __future__ import annotations

from typing import Literal

SegmentationNetwork = Literal["unet", "improved_unet"]
AutoencoderNetwork = Literal["strong", "faithful"]
HeadInit = Literal["uniform", "xavier"]  # first weights of a head: torch's own rule, or Xavier's with zero biases
