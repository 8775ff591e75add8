"""Whoever takes a bundle elsewhere reads in its card what to feed the graph; a card that says otherwise than the graph
would have them feed it something else, and believe what comes out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from derm_ml.bundles.bundle import Bundle, BundleError, read_card, seal
from derm_ml.bundles.onnx_file import GraphError, Tensor, interface
from derm_ml.files import sha256


@pytest.fixture
def bundle(tmp_path: Path, colour_model, tinted_dataset) -> Path:
    """A bundle as `derm fit` seals it."""
    return colour_model(tmp_path / "model", tinted_dataset, 0.0, evaluated=False)


def card_of(bundle: Path) -> dict:
    return json.loads((bundle / "bundle.json").read_text())


def edited(bundle: Path, change: Callable[[dict], object]) -> None:
    told = card_of(bundle)
    change(told["network_data_format"])
    (bundle / "bundle.json").write_text(json.dumps(told))


def test_a_sealed_card_describes_what_its_graph_takes_and_gives(bundle):
    (name, graph), *others = card_of(bundle)["network_data_format"].items()
    assert (name, others) == ("model.onnx", [])
    image = graph["inputs"]["image"]
    assert (image["dtype"], image["shape"], image["value_range"]) == ("uint8", ["n", 32, 32, 3], [0, 255])
    assert list(graph["outputs"]) == ["logits", "embedding", "maps"]
    assert graph["outputs"]["maps"] | {"meaning": ""} == {
        "dtype": "float32", "shape": ["n", 3, 4, 4], "value_range": [0, None], "meaning": "",
    }  # fmt: skip
    assert all(tensor["meaning"] for part in graph.values() for tensor in part.values())


WRONG = {
    "says that 'image' of model.onnx is uint8 (n, 64, 64, 3), it is uint8 (n, 32, 32, 3)": (
        lambda graphs: graphs["model.onnx"]["inputs"]["image"].update(shape=["n", 64, 64, 3])
    ),
    "says that 'image' of model.onnx is float32 (n, 32, 32, 3), it is uint8 (n, 32, 32, 3)": (
        lambda graphs: graphs["model.onnx"]["inputs"]["image"].update(dtype="float32")
    ),
    "says that the outputs of model.onnx are embedding, maps, they are logits, embedding, maps": (
        lambda graphs: graphs["model.onnx"]["outputs"].pop("logits")
    ),
    "describes the graphs none, the bundle has model.onnx": lambda graphs: graphs.pop("model.onnx"),
    "describes the graphs model.onnx, other.onnx, the bundle has model.onnx": (
        lambda graphs: graphs.update({"other.onnx": graphs["model.onnx"]})
    ),
}


@pytest.mark.parametrize("said", WRONG)
def test_a_card_that_says_otherwise_than_its_graph_is_not_opened(bundle, said):
    edited(bundle, WRONG[said])
    with pytest.raises(BundleError) as refused:
        Bundle.open(bundle)
    assert said in str(refused.value)


def test_another_graph_under_the_same_card_is_not_opened(bundle, colour_graph):
    """Even if somebody put its sha256 into the card."""
    onnx.save(colour_graph(np.eye(3, dtype=np.float32), 64), bundle / "model.onnx")
    told = card_of(bundle)
    told["files"]["model.onnx"] = sha256(bundle / "model.onnx")
    (bundle / "bundle.json").write_text(json.dumps(told))
    with pytest.raises(BundleError, match=r"\(n, 32, 32, 3\), it is uint8 \(n, 64, 64, 3\)"):
        Bundle.open(bundle)


def test_sealing_again_describes_the_graph_that_lies_there_now(bundle, colour_graph):
    onnx.save(colour_graph(np.eye(3, dtype=np.float32), 64), bundle / "model.onnx")
    seal(bundle, read_card(bundle))
    assert card_of(bundle)["network_data_format"]["model.onnx"]["inputs"]["image"]["shape"] == ["n", 64, 64, 3]
    Bundle.open(bundle)


def test_words_may_change_where_numbers_do_not(bundle):
    """A later version may explain an output better: bundles of before still open."""
    edited(bundle, lambda graphs: graphs["model.onnx"]["outputs"]["logits"].update(meaning="as it was said once"))
    assert Bundle.open(bundle).card.network_data_format["model.onnx"].outputs["logits"].meaning == "as it was said once"


dims = st.lists(st.integers(0, 2**40) | st.sampled_from(["batch", "höhe", "a b"]) | st.none(), max_size=5)
kinds = st.sampled_from(
    [(1, "float32"), (2, "uint8"), (7, "int64"), (11, "float64"), (9, "bool"), (14, "onnx type 14")]
)


@given(
    st.lists(st.tuples(st.text(min_size=1, max_size=20), kinds, dims), min_size=1, max_size=4, unique_by=lambda t: t[0])
)
def test_names_dtypes_and_shapes_are_read_as_onnx_wrote_them(tmp_path_factory, tensors):
    infos = [helper.make_tensor_value_info(name, kind, shape) for name, (kind, _), shape in tensors]
    own = numpy_helper.from_array(np.zeros(3, np.float32), "kept inside")  # older exporters list these as inputs too
    listed = helper.make_tensor_value_info("kept inside", TensorProto.FLOAT, [3])
    path = tmp_path_factory.mktemp("graph") / "model.onnx"
    path.write_bytes(
        helper.make_model(helper.make_graph([], "g", [*infos, listed], infos[:1], [own])).SerializeToString()
    )
    wanted = tuple(
        Tensor(name, dtype, tuple("?" if d is None else d for d in shape)) for name, (_, dtype), shape in tensors
    )
    found = interface(path)
    assert found.inputs == tuple(t for t in wanted if t.name != "kept inside")
    assert found.outputs == wanted[:1]


@given(st.binary(min_size=1, max_size=200))
def test_bytes_that_are_no_graph_are_refused(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("graph") / "model.onnx"
    path.write_bytes(data)
    try:
        interface(path)
    except GraphError:
        return
