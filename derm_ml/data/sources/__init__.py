"""Readers of the layouts in which people really have their images: one file a layout, `read_source` for all."""

from derm_ml.data.sources.detect import LAYOUTS, MASK_LAYOUTS, PAIR_LAYOUTS, RETINA_LAYOUTS, read_source

__all__ = ["LAYOUTS", "MASK_LAYOUTS", "PAIR_LAYOUTS", "RETINA_LAYOUTS", "read_source"]
