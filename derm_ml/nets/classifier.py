"""An image classifier whose forward pass also explains itself.

features → global average pooling → head. For such a network Grad-CAM (Selvaraju et al. 2017) of label c is
ReLU(Σ_k α_k A_k) with α_k = ∂logit_c/∂A_k averaged over the map = J_ck / (h·w), where J is the Jacobian of the
head. The head is a chain of linear layers and ReLUs, so J is a product of its weight matrices and gates and
needs no backward pass: the graph returns logits, embedding and heatmaps together. Where the maps are flattened
instead of pooled (AlexNet), J is averaged over the cells of the map, which is the same definition.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from derm_ml.nets import alexnet
from derm_ml.nets.backbones import backbone
from derm_ml.nets.choices import HeadInit
from derm_ml.nets.pretrained import AUTO


class Head(nn.Module):
    """Features (N, C · cells), attribute features (N, M) → logits (N, L): Linear, or Linear-ReLU-…-Linear.

    `cells` is 1 for pooled maps, h · w for flattened ones. `hidden` are the widths between, e.g. (512, 128).
    Dropout is in front of every linear layer.
    """

    def __init__(
        self,
        channels: int,
        labels: int,
        hidden: Sequence[int] = (),
        attributes: int = 0,
        dropout: float = 0.0,
        cells: int = 1,
    ):
        super().__init__()
        widths = [channels * cells + attributes, *hidden, labels]
        self.channels, self.cells = channels, cells
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.dropout = nn.Dropout(dropout)

    def start_xavier(self) -> None:
        """Weights uniform in ±√(6 / (inputs + outputs)), biases zero (Glorot & Bengio 2010, equation 16)."""
        for layer in self.layers:
            assert isinstance(layer, nn.Linear)
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, features: Tensor, attributes: Tensor | None = None) -> Tensor:
        return self.layers[-1](self.dropout(self.penultimate(features, attributes)))

    def penultimate(self, features: Tensor, attributes: Tensor | None = None) -> Tensor:
        """What the last linear layer gets, (N, last hidden width), or the features where there is no hidden layer."""
        x = features if attributes is None else torch.cat([features, attributes], dim=1)
        for layer in self.layers[:-1]:
            x = layer(self.dropout(x)).relu()
        return x

    def jacobian(self, features: Tensor, attributes: Tensor | None = None) -> Tensor:
        """∂logits/∂features averaged over the cells, (N, L, C), in evaluation mode."""
        x = features if attributes is None else torch.cat([features, attributes], dim=1)
        gates = []
        for layer in self.layers[:-1]:
            x = layer(x).relu()
            gates.append((x > 0).to(x.dtype))
        first, *later = (layer.get_parameter("weight") for layer in self.layers)
        # averaging the first weights over the cells averages the whole product over them
        first = first[:, : self.channels * self.cells].unflatten(1, (self.channels, self.cells)).mean(dim=2)
        weights = [first, *later]
        # shape[0], not len(): that would fix the batch size in the exported graph
        product = weights.pop().expand(features.shape[0], -1, -1)
        while weights:
            product = (product * gates.pop()[:, None, :]) @ weights.pop()
        return product


class ClassifierNetwork(nn.Module):
    """Backbone + head on RGB uint8 images.

    forward(images (N, H, W, 3) uint8, attributes (N, A) float32 or None) → logits (N, L).
    Colours are normalised inside, so that training, evaluation and serving cannot differ in it.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone_name: str,
        labels: int,
        pretrained: str = AUTO,
        hidden: Sequence[int] = (),
        dropout: float = 0.0,
        attributes: int = 0,
        head_init: HeadInit = "uniform",
        side: int = 224,
    ):
        super().__init__()
        found = backbone(backbone_name, pretrained)
        self.features = found.features
        self.flat = backbone_name == alexnet.NAME
        cells = alexnet.cells_of(self.features, side) if self.flat else 1
        # a hidden layer of 16 is ample for two attributes with their missing flags
        self.attributes = nn.Sequential(nn.Linear(attributes, 16), nn.ReLU()) if attributes else None
        self.head = Head(found.channels, labels, hidden, 16 if attributes else 0, dropout, cells)
        if head_init == "xavier":
            self.head.start_xavier()
        self.register_buffer("mean", torch.tensor(found.mean).view(1, 3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(found.std).view(1, 3, 1, 1) * 255, persistent=False)

    def activations(self, images: Tensor) -> Tensor:
        """(N, H, W, 3) uint8 → the last maps (N, C, h, w)."""
        x = images.permute(0, 3, 1, 2).float()  # a permuted NHWC tensor is channels_last already
        return self.features((x - self.mean) / self.std)

    def forward(self, images: Tensor, attributes: Tensor | None = None) -> Tensor:
        return self.head(self._pooled(self.activations(images)), self._attributes(attributes))

    def explained(self, images: Tensor, attributes: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (N, L), embedding (N, D), Grad-CAM maps (N, L, h, w) ≥ 0, in one forward pass.

        The embedding is the pooled maps, or, where they are flattened, what the last linear layer gets.
        """
        logits, embedding, evidence = self.evidence(images, attributes)
        return logits, embedding, evidence.relu()

    def evidence(self, images: Tensor, attributes: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """As `explained`, the maps with what speaks against a label too: Σ_k α_k A_k before the ReLU."""
        maps = self.activations(images)
        features, extra = self._pooled(maps), self._attributes(attributes)
        alpha = self.head.jacobian(features, extra)
        if not self.flat:  # each cell has an equal share in the mean
            alpha = alpha / (maps.shape[2] * maps.shape[3])
        evidence = (alpha @ maps.flatten(2)).unflatten(2, maps.shape[2:])
        embedding = self.head.penultimate(features, extra) if self.flat else features
        return self.head(features, extra), embedding, evidence

    def freeze_features(self, frozen: bool) -> None:
        """Let only the head learn: no gradients, and batch statistics stay as pretrained."""
        self.features.requires_grad_(not frozen)
        self.features.train(self.training and not frozen)

    def _pooled(self, maps: Tensor) -> Tensor:
        return maps.flatten(1) if self.flat else maps.mean(dim=(2, 3))

    def _attributes(self, attributes: Tensor | None) -> Tensor | None:
        return None if self.attributes is None else self.attributes(attributes)
