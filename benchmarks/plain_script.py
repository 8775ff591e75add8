"""The script a careful engineer writes in an afternoon, to measure the library against. It uses nothing of it.

MobileNetV2 from the same weights file, AdamW with warm-up and cosine, flips, turns, crops and colour,
four flips averaged. `train_and_predict` is all of it; benchmarks/cross_validation.py runs it fold by fold.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torchvision
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F
from torchvision.transforms import v2

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def train_and_predict(
    images: np.ndarray,
    classes: np.ndarray,
    unseen: np.ndarray,
    weights: str,
    epochs: int = 10,
    side: int = 192,
    rate: float = 1e-3,
    batch: int = 32,
    seed: int = 0,
) -> np.ndarray:
    """Train on `images` (N, H, W, 3) uint8 and `classes`; probabilities (M, C) of `unseen` (M, H, W, 3).

    `classes` are (N,) int where they exclude each other, (N, C) float32 of 0 and 1 where they do not.
    """
    torch.manual_seed(seed)
    exclusive = classes.ndim == 1
    loss_of = F.cross_entropy if exclusive else F.binary_cross_entropy_with_logits
    model = torchvision.models.mobilenet_v2(weights=None)
    model.load_state_dict(load_file(weights), strict=False)
    model.classifier[1] = nn.Linear(model.last_channel, int(classes.max()) + 1 if exclusive else classes.shape[1])
    model = model.to(memory_format=torch.channels_last)
    augment = v2.Compose(
        [
            v2.RandomResizedCrop(side, scale=(0.7, 1.0), antialias=True),
            v2.RandomHorizontalFlip(),
            v2.RandomVerticalFlip(),
            v2.ColorJitter(0.2, 0.2, 0.2, 0.02),
        ]
    )
    normal = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)])
    units = torch.cpu.get_capabilities()  # elsewhere bfloat16 is emulated, at a tenth of the speed
    fast = bool(units.get("amx_bf16") or units.get("avx512_bf16"))
    pictures, targets = torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(classes)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01)
    steps = epochs * (len(pictures) // batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: min((s + 1) / (steps / 10), 0.5 * (1 + math.cos(math.pi * s / steps)))
    )
    for _ in range(epochs):
        model.train()
        order = torch.randperm(len(pictures))
        for start in range(0, len(order) - batch + 1, batch):
            some = order[start : start + batch]
            turned = [torch.rot90(augment(pictures[i]), int(torch.randint(4, ())), (1, 2)) for i in some]
            with torch.autocast("cpu", torch.bfloat16, enabled=fast):
                logits = model(normal(torch.stack(turned)).contiguous(memory_format=torch.channels_last))
            loss = loss_of(logits.float(), targets[some])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    model.eval()
    found = []
    with torch.no_grad():
        for chunk in torch.from_numpy(unseen).permute(0, 3, 1, 2).split(64):
            x = normal(v2.functional.resize(chunk, [side, side], antialias=True))
            views = [x, x.flip(2), x.flip(3), x.flip(2, 3)]
            logits = [model(v) for v in views]
            found.append(torch.stack([z.softmax(1) if exclusive else z.sigmoid() for z in logits]).mean(0))
    return torch.cat(found).numpy()
