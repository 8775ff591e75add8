"""The network that explains itself: its heatmap must be Grad-CAM, in torch and in the exported graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import get_model

from derm_ml.explain.gradcam import grad_cam
from derm_ml.explain.random_head import with_weights
from derm_ml.nets.backbones import backbone
from derm_ml.nets.classifier import ClassifierNetwork
from derm_ml.nets.pretrained import PretrainedError
from derm_ml.training.export import export_classifier

pytestmark = pytest.mark.slow

SIDE = 128  # AlexNet's last map is then 2 × 2
NETWORKS = [("mobilenet_v2", (), 0), ("resnet18", (32, 16), 4), ("alexnet_bn", (), 0), ("alexnet_bn", (32,), 4)]
NETWORKS += [("tf_efficientnet_lite0", (), 4), ("convnext_atto", (16,), 0), ("vit_tiny_patch16_224", (), 0)]  # timm's


@pytest.fixture(params=NETWORKS, ids=lambda p: f"{p[0]}-head{p[1]}-attributes{p[2]}")
def network(request):
    name, hidden, attributes = request.param
    torch.manual_seed(0)
    made = ClassifierNetwork(name, 8, "none", hidden, dropout=0.2, attributes=attributes, side=SIDE).eval()
    for module in made.modules():  # a fresh network's maps are nearly constant: give batch norm something to do
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, -0.5, 0.5)
    return made, attributes


def pictures(n: int, attributes: int):
    torch.manual_seed(1)
    return torch.randint(0, 255, (n, SIDE, SIDE, 3), dtype=torch.uint8), torch.randn(
        n, attributes
    ) if attributes else None


def test_the_forward_pass_explains_like_grad_cam_by_hooks_and_gradients(network):
    net, attributes = network
    images, extra = pictures(3, attributes)
    with torch.no_grad():
        _, _, maps = net.explained(images, extra)
    assert maps.max() > 0
    for label in range(8):
        reference = grad_cam(lambda: net(images, extra), net.features, label)
        assert torch.allclose(maps[:, label], reference, atol=1e-4 * float(reference.max()) + 1e-9)


def test_the_exported_graph_says_what_torch_says_for_any_batch(network, tmp_path: Path):
    net, attributes = network
    export_classifier(net, SIDE, 2 * (attributes // 2), tmp_path)
    made_here = str(Path(torch.__file__).parents[1]).encode()
    assert made_here not in (tmp_path / "model.onnx").read_bytes(), "the graph names folders of this machine"
    session = ort.InferenceSession(tmp_path / "model.onnx")
    for n in (1, 3):
        assert_same(session, net, n, attributes)
    head_is_exchanged_wherever_it_stands(net, attributes, tmp_path / "model.onnx")


def assert_same(session: ort.InferenceSession, net: ClassifierNetwork, n: int, attributes: int) -> None:
    images, extra = pictures(n, attributes)
    with torch.no_grad():
        expected = net.explained(images, extra)
    feed = {"image": images.numpy()} | ({} if extra is None else {"attributes": extra.numpy()})
    for got, want in zip(session.run(None, feed), expected, strict=True):
        np.testing.assert_allclose(got, want.numpy(), atol=1e-4, rtol=1e-3)


def head_is_exchanged_wherever_it_stands(net: ClassifierNetwork, attributes: int, graph: Path) -> None:
    """A heatmap is held against that of a random head: were the head left as it is where the exporter folded it into
    the heatmap, every honest heatmap would fail."""
    learned = {name: v.numpy().copy() for name, v in net.head.state_dict(prefix="head.").items() if v.ndim == 2}
    rng = np.random.default_rng(0)
    others = {name: rng.normal(0, v.std(), v.shape).astype(np.float32) for name, v in learned.items()}
    changed = with_weights(onnx.load(graph), learned, others)
    assert changed is not None
    net.load_state_dict({name: torch.from_numpy(v) for name, v in others.items()}, strict=False)
    assert_same(ort.InferenceSession(changed.SerializeToString()), net, 2, attributes)


def test_hooks_are_gone_after_grad_cam():
    net = ClassifierNetwork("resnet18", 2, "none").eval()
    images, _ = pictures(1, 0)
    grad_cam(lambda: net(images), net.features, 0)
    assert not net.features._forward_hooks


def test_frozen_features_neither_learn_nor_drift():
    net = ClassifierNetwork("resnet18", 2, "none").train()
    net.freeze_features(True)
    before = {k: v.clone() for k, v in net.features.state_dict().items()}
    net(pictures(4, 0)[0]).sum().backward()
    assert all(p.grad is None for p in net.features.parameters())
    assert net.head.layers[0].weight.grad is not None
    assert all(torch.equal(v, before[k]) for k, v in net.features.state_dict().items())
    net.train()
    net.freeze_features(False)
    assert all(p.requires_grad for p in net.features.parameters())


def test_pretrained_weights_come_from_a_file(tmp_path):
    model = get_model("squeezenet1_1", weights=None)
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    found = backbone("squeezenet1_1", str(tmp_path / "w.safetensors"))
    features, channels = found.features, found.channels
    assert channels == 512
    assert torch.equal(next(features.parameters()), next(model.features.parameters()))


def test_training_goes_on_from_the_weights_of_a_bundle(tmp_path):
    learnt = ClassifierNetwork("mobilenet_v3_small", 7, "none")
    save_file(learnt.state_dict(), tmp_path / "weights.safetensors")
    onwards = ClassifierNetwork("mobilenet_v3_small", 3, str(tmp_path / "weights.safetensors"))
    for name, value in learnt.features.state_dict().items():
        assert torch.equal(onwards.features.state_dict()[name], value), name
    with pytest.raises(PretrainedError, match="does not hold the weights of resnet18"):
        ClassifierNetwork("resnet18", 3, str(tmp_path / "weights.safetensors"))


def test_weights_of_another_network_are_refused_by_name(tmp_path):
    save_file(get_model("squeezenet1_0", weights=None).state_dict(), tmp_path / "w.safetensors")
    with pytest.raises((PretrainedError, RuntimeError), match=r"squeezenet1_1|size mismatch|does not hold"):
        backbone("mobilenet_v2", str(tmp_path / "w.safetensors"))


def test_offline_the_error_says_how_to_supply_a_file(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nothing listens there: offline on any machine
    with pytest.raises(PretrainedError, match=r"put a \.safetensors file"):
        backbone("squeezenet1_1", "torchvision")


@pytest.mark.parametrize(
    "name", ["mobilenet_v3_small", "efficientnet_b0", "densenet121", "regnet_y_400mf", "resnext50_32x4d"]
)
def test_backbones_of_every_family_give_maps(name):
    found = backbone(name, "none")
    features, channels = found.features, found.channels
    with torch.no_grad():
        assert features.eval()(torch.zeros(1, 3, 64, 64)).shape[1] == channels
