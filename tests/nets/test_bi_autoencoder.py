"""Version 2 as TASKS.md describes it; in the original transformers and decoders were never trained."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from derm_ml.images.geometry import project
from derm_ml.losses.bi_autoencoder import code_distance, landed, misalignment, reconstruction_and_latent
from derm_ml.nets.bi_autoencoder import BiAutoencoder, Codes, sampled
from derm_ml.nets.comparer import inverse
from derm_ml.pairs.registration.learned import TransformNetwork
from derm_ml.training.export import export_registration

pytestmark = pytest.mark.slow


@pytest.fixture
def network() -> BiAutoencoder:
    torch.manual_seed(0)
    return BiAutoencoder(side=88, dropout=0.0)


def between(said: Codes) -> torch.Tensor:
    """The maps (N, L, 3, 3) from the first photos to the second ones, in -1..1, after one look, after two, …"""
    return said.transforms[1] @ inverse(said.transforms[0])


CORNERS = torch.tensor([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])


def photos(side: int = 88, n: int = 2) -> torch.Tensor:
    rng = torch.Generator().manual_seed(1)
    return torch.nn.functional.interpolate(torch.rand(n, 3, 11, 11, generator=rng), (side, side), mode="bilinear")


def test_the_shapes_are_the_original_s():
    said = BiAutoencoder(256).eval()(photos(256, 1), photos(256, 1))
    assert said.codes[0].shape == (1, 20, 61, 61)
    assert said.logits[1].shape == (1, 3, 256, 256)
    with pytest.raises(ValueError, match="at least 84"):
        BiAutoencoder(60)


@pytest.mark.parametrize("latent", ["bce", "cosine", "mse"])
def test_every_parameter_gets_a_gradient(network, latent):
    x = photos()
    sum(reconstruction_and_latent(network(x, x.flip(3)), x, x.flip(3), latent)).backward()
    silent = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not silent
    moved = {n for n, p in network.named_parameters() if p.grad.abs().sum() > 0}
    assert {"branches.0.see.localiser.transform.2.weight", "branches.1.show.localiser.transform.2.bias"} <= moved


def test_with_looks_every_parameter_gets_a_gradient():
    network = BiAutoencoder(88, dropout=0.0, looks=2)
    x = photos()
    sum(reconstruction_and_latent(network(x, x.flip(3)), x, x.flip(3), "cosine")).backward()
    assert not [n for n, p in network.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    believed = [p.grad for n, p in network.named_parameters() if n.endswith("trust")]
    assert len(believed) == 3
    assert all(g.abs().sum() > 0 for g in believed)


def moved_away(network: BiAutoencoder) -> None:
    """From the identity, so that what a transformer says depends on what it sees."""
    with torch.no_grad():
        for name, weights in network.named_parameters():
            if name.endswith("transform.2.weight"):
                weights.copy_(0.3 * torch.randn(weights.shape, generator=torch.Generator().manual_seed(3)))


def test_of_one_branch_it_does_not_matter_which_visit_comes_first():
    """The map back is the inverse of the map there, so a pair has one answer."""
    torch.manual_seed(0)
    network = BiAutoencoder(88, dropout=0.0, shared=True)
    moved_away(network)
    x = photos()
    there, back = between(network(x, x.flip(3)))[:, -1], between(network(x.flip(3), x))[:, -1]
    still = torch.eye(3).expand(2, 3, 3)
    assert not torch.allclose(there, still, atol=1e-2)
    assert torch.allclose(there @ back, still, atol=1e-4)
    assert sum(p.numel() for p in network.parameters()) * 2 == sum(p.numel() for p in BiAutoencoder(88).parameters())


def test_the_looks_lay_a_photo_on_itself_turned():
    """Of comparing looks the map there and back is one answer too, and even untrained features find a small turn."""
    torch.manual_seed(0)
    network = BiAutoencoder(88, dropout=0.0, shared=True, looks=2)
    x, turn = photos(), torch.tensor([[1, 0.1, 0.1], [-0.1, 1, 0], [0, 0, 1]]).expand(2, 3, 3)
    still = between(network(x, sampled(x, turn)))
    assert still.shape == (2, 3, 3, 3)
    assert torch.allclose(still, torch.eye(3).expand(2, 3, 3, 3), atol=1e-5)
    believing(network)
    turned = network(sampled(x, turn), x)
    there, back = between(turned), between(network(x, sampled(x, turn)))
    assert torch.allclose(there[:, -1] @ back[:, -1], torch.eye(3).expand(2, 3, 3), atol=1e-3)
    truth = CORNERS @ turn[:, :2, :2].transpose(1, 2) + turn[:, None, :2, 2]
    found, before = misalignment(landed(turned, CORNERS), truth), misalignment(CORNERS[None, None], truth)
    assert found.mean() < 0.5 * before.mean()


def believing(network: BiAutoencoder) -> None:
    with torch.no_grad():
        for name, value in network.named_parameters():
            if name.endswith("trust"):
                value.fill_(0.1)


def test_the_second_transformer_corrects_the_first(network):
    """Both answers are trained: with the first transformer at rest, the second alone still moves the photo."""
    with torch.no_grad():
        network.first.look.localiser.transform[-1].bias.copy_(torch.tensor([1.0, 0, 0.2, 0, 1, 0]))
    alone, both = between(network(photos(), photos())).unbind(1)
    assert torch.allclose(alone, torch.eye(3).expand(2, 3, 3), atol=1e-6)
    assert both[0, 0, 2].item() == pytest.approx(-0.2 * 84 / 88, abs=1e-5)


@pytest.mark.parametrize("latent", ["bce", "cosine", "mse"])
def test_the_latent_term_changes_both_encoders(network, latent):
    """In the original the code was detached: the term was computed and had no effect."""
    x = photos()
    code_distance(*network(x, x.flip(3)).codes, latent).backward()
    for branch in (network.first, network.second):
        assert branch.conv1.weight.grad.abs().sum() > 0
        assert branch.look.localiser.transform[-1].bias.grad.abs().sum() > 0


def test_transformers_start_at_the_identity(network):
    said = network(photos(), photos())
    inner = (88 - 4) / 88
    assert torch.allclose(
        said.transforms[0], torch.diag(torch.tensor([inner, inner, 1.0])).expand(2, 2, 3, 3), atol=1e-6
    )


def test_a_known_shift_is_learned(network):
    """Trained on one pair that is shifted by 12 % of the side, the transforms must come to shift by that."""
    torch.manual_seed(2)
    wide = photos(108, 1)
    first, second = (
        wide[..., 10:98, 10:98],
        wide[..., 10:98, 20:108],
    )  # what is at x in the second is at x + 10 in the first
    for part in (*network.first.conv1.parameters(), *network.second.conv1.parameters()):
        part.requires_grad_(False)
    localisers = [p for n, p in network.named_parameters() if "localiser" in n]
    optimizer = torch.optim.Adam(localisers, lr=1e-3)
    for _ in range(40):
        optimizer.zero_grad()
        code_distance(*network(first, second).codes, "mse").backward()
        optimizer.step()
    found = between(network(first, second))[0, -1]
    assert found[0, 2].item() == pytest.approx(-2 * 10 / 88, abs=0.08)
    assert abs(found[1, 2].item()) < 0.08


def test_a_known_map_teaches_and_an_unknown_one_does_not(network):
    """Of two real visits the map is NaN: it must not reach the weights."""
    turn = torch.tensor([[0.0, -1], [1, 0]])
    truth = torch.stack([CORNERS @ turn.T, torch.full((4, 2), torch.nan)])
    apart = misalignment(landed(network(photos(), photos()), CORNERS), truth)
    # a quarter turn moves a corner at √½ from the middle by 1
    assert apart[0].tolist() == pytest.approx([1.0, 1.0], abs=1e-5)
    assert apart[1].isnan().all()
    apart[apart.isfinite()].sum().backward()
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    assert gradients
    assert all(g.isfinite().all() for g in gradients)


def test_the_exported_graph_compares_and_bends_as_the_network_does(tmp_path):
    torch.manual_seed(0)
    network = BiAutoencoder(88, dropout=0.0, shared=True, looks=2, bends=True).eval()
    believing(network)
    export_registration(network, tmp_path)
    three = photos(n=3)  # exported for two: the number of pairs is free
    pair = [(255 * x.permute(0, 2, 3, 1)).to(torch.uint8) for x in (three, three.flip(2))]
    session = TransformNetwork.open(tmp_path / "model.onnx", 88).session
    told = session.run(["transform", "difference", "lattice"], {"first": pair[0].numpy(), "second": pair[1].numpy()})
    with torch.no_grad():
        wanted = network.registered(*pair)
    for said, right in zip(told, wanted, strict=True):
        assert np.abs(said - right.numpy()).max() < 1e-4


def test_the_exported_graph_registers_as_the_network_does(network, tmp_path):
    with torch.no_grad():  # away from the identity
        for branch, shift in ((network.first, 0.1), (network.second, -0.2)):
            branch.see.localiser.transform[-1].bias.copy_(torch.tensor([1.1, 0.1, shift, -0.1, 0.9, 0.05]))
    export_registration(network, tmp_path)
    rng = np.random.default_rng(0)
    a, b = (rng.integers(0, 255, (88, 88, 3), np.uint8) for _ in range(2))
    found = TransformNetwork.open(tmp_path / "model.onnx", 88)(a, b)
    matrix, is_mirrored = found.matrix, found.is_mirrored
    assert found.lattice is None  # its maps do not bend
    shown = np.ascontiguousarray(b[:, ::-1]) if is_mirrored else b
    wanted = (
        network.registered(torch.from_numpy(a)[None], torch.from_numpy(shown)[None])[0][0].double().detach().numpy()
    )
    middle = project(matrix, np.array([[43.5, 43.5]]))[0]
    expected = project(wanted, np.array([[0.0, 0.0]]))[0] * 44 + 43.5
    if is_mirrored:
        expected[0] = 87 - expected[0]
    assert np.abs(middle - expected).max() < 1e-2
