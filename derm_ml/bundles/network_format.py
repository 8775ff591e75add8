"""What the graphs of a bundle take and give, as its card says it: names, dtypes, shapes, value ranges, meanings.

    network_data_format(folder, …)        read from the graphs when a bundle is sealed
    difference(of the card, found)        compared with them whenever it is opened; "" where both say the same

Dtypes and shapes are those of the ONNX file; a dimension that is free is a name, such as `batch`. Ranges and meanings
are known of the graph that this project exports, `model.onnx`; of a graph that a bundle brings along (a face detector)
they are left open. The name and the idea are those of MONAI's metadata.json.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from derm_ml.bundles.onnx_file import GraphError, Tensor, interface


class TensorFormat(BaseModel):
    """One input or output of a graph. `value_range` is (least, most), null where there is no end."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dtype: str
    shape: tuple[int | str, ...]
    value_range: tuple[float | None, float | None] = (None, None)
    meaning: str = ""


class GraphFormat(BaseModel):
    """What one graph takes and gives, by name, in its order."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    inputs: dict[str, TensorFormat]
    outputs: dict[str, TensorFormat]


NetworkDataFormat = dict[str, GraphFormat]  # name of a graph's file → what it takes and gives
_Known = tuple[tuple[float | None, float | None], str]

_PIXELS = (0, 255)
_OPEN = (None, None)
_SQUARE = "RGB, rows × columns × channels: the square that the card's preprocessing makes of an image"
_ANY_HEAD: Mapping[str, _Known] = {
    "image": (_PIXELS, _SQUARE),
    "attributes": (
        _OPEN,
        "two numbers for each of the card's attributes: its value, and 1 where it is missing; age in units of 20 years "
        "from 50, sex 1 male and -1 female",
    ),
    "embedding": (_OPEN, "the layer before the head: images with near vectors look alike to the network"),
    "maps": ((0, None), "Grad-CAM of each label over the square, not normalised"),
}
_LABELS = "one for each of the card's labels, in their order, before calibration"
_BY_HEAD: Mapping[str, Mapping[str, _Known]] = {
    "softmax": {"logits": (_OPEN, f"{_LABELS}; labels exclude each other")},
    "sigmoid": {"logits": (_OPEN, f"{_LABELS}; labels do not exclude each other")},
    "mask": {
        "logits": (_OPEN, "one for each pixel of the square, before calibration; above 0 inside the outline"),
        "embedding": (_OPEN, "the mean of the encoder's deepest maps: images with near vectors look alike to it"),
    },
    "reconstruction": {
        "embedding": (_OPEN, "the code of the image"),
        "reconstruction": (_PIXELS, "the square again, RGB, as the code describes it"),
    },
    "pairs": {
        "first": (_PIXELS, "RGB, rows × columns × channels: the photo of the first visit, as a square"),
        "second": (_PIXELS, "RGB, rows × columns × channels: the photo of the second visit, as a square"),
        "transform": (_OPEN, "homography from the first photo to the second, both in -1 to 1 from edge to edge"),
        "difference": ((0, None), "how far the codes of the two photos differ"),
    },
}


def network_data_format(folder: Path, graphs: Sequence[str], head: str, own: str) -> NetworkDataFormat:
    """What the files `graphs` in `folder` take and give; `own` is the one whose ranges and meanings `head` tells.

    Raises `GraphError` naming a file that is no ONNX graph.
    """
    found = {}
    for name in graphs:
        try:
            said = interface(folder / name)
        except GraphError as error:
            raise GraphError(f"{folder / name}: {error}") from error
        known = {**_ANY_HEAD, **_BY_HEAD.get(head, {})} if name == own else {}
        found[name] = GraphFormat(inputs=_described(said.inputs, known), outputs=_described(said.outputs, known))
    return found


def mismatch(said: NetworkDataFormat, found: NetworkDataFormat) -> str:
    """What a card says otherwise than the graphs, as half a sentence; "" where it says the same."""
    if set(said) != set(found):
        return f"describes the graphs {_names(said)}, the bundle has {_names(found)}"
    for file, graph in found.items():
        for what in ("inputs", "outputs"):
            of_card, of_graph = getattr(said[file], what), getattr(graph, what)
            if list(of_card) != list(of_graph):
                return f"says that the {what} of {file} are {_names(of_card)}, they are {_names(of_graph)}"
            for name, tensor in of_graph.items():
                if (mine := _shown(of_card[name])) != (its := _shown(tensor)):
                    return f"says that '{name}' of {file} is {mine}, it is {its}"
    return ""


def _described(tensors: Sequence[Tensor], known: Mapping[str, _Known]) -> dict[str, TensorFormat]:
    described = {}
    for tensor in tensors:
        value_range, meaning = known.get(tensor.name, (_OPEN, ""))
        described[tensor.name] = TensorFormat(
            dtype=tensor.dtype, shape=tensor.shape, value_range=value_range, meaning=meaning
        )
    return described


def _shown(tensor: TensorFormat) -> str:
    return f"{tensor.dtype} ({', '.join(map(str, tensor.shape))})"


def _names(named: Mapping[str, object]) -> str:
    return ", ".join(named) or "none"
