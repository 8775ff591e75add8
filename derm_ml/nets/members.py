"""Networks of one recipe that answer together: the mean of their logits (a deep ensemble).

Lakshminarayanan et al. 2017, arXiv 1612.01474: networks that differ in nothing but their random start and order of
images err on different cases; their mean errs less than each.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from derm_ml.nets.classifier import ClassifierNetwork
from derm_ml.nets.segmenter import SegmenterNetwork


class Members(nn.Module):
    """Takes what one member takes and returns the mean of the members' logits.

    Its weights are named `members.<k>.<name in the member>`.
    """

    def __init__(self, members: Sequence[ClassifierNetwork | SegmenterNetwork]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, images: Tensor, attributes: Tensor | None = None) -> Tensor:
        given = (images,) if attributes is None else (images, attributes)
        return torch.stack([member(*given) for member in self.members]).mean(dim=0)

    def with_embedding(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """As `SegmenterNetwork.with_embedding`: mean logits, the members' embeddings side by side (N, D · members)."""
        logits, embeddings = zip(*(member.with_embedding(images) for member in self.members), strict=True)  # pyright: ignore[reportCallIssue]
        return torch.stack(logits).mean(0), torch.cat(embeddings, dim=1)

    def explained(self, images: Tensor, attributes: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """As `ClassifierNetwork.explained`: logits (N, L), the members' embeddings side by side (N, D · members), maps.

        Mean logits are those of one network that has all members' last maps side by side, so its Grad-CAM is the mean
        of the members' evidence, cut at zero after the mean and not before.
        """
        logits, embeddings, evidence = zip(*(m.evidence(images, attributes) for m in self.members), strict=True)  # pyright: ignore[reportCallIssue]
        return torch.stack(logits).mean(0), torch.cat(embeddings, dim=1), torch.stack(evidence).mean(0).relu()
