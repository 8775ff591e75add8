"""The recipes of the autoencoder, the same for every task. The first is what `derm autoencode` uses."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from derm_ml.images.settings import Squaring
from derm_ml.losses.choices import PixelLoss
from derm_ml.nets.choices import AutoencoderNetwork
from derm_ml.recipe import Group
from derm_ml.training.settings import Optimiser, TrainingRecipe


class AutoencoderImage(Group):
    """How an image becomes the square that is reconstructed."""

    side: int = Field(default=224, ge=32, le=1024, multiple_of=32, description="pixels of the square image")
    squaring: Squaring = Field(default="squash", description="how an image becomes a square")
    augmentation: Literal["none", "flips"] = Field(
        default="flips", description="colour and scale are what it must reproduce"
    )


class ReconstructionObjective(Group):
    """What training minimises."""

    pixel_loss: PixelLoss = Field(default="mse", description="per pixel and channel, on 0..1")
    ssim_weight: float = Field(default=0.0, ge=0, lt=1, description="share of 1 - SSIM in the loss")


class AutoencoderRecipe(TrainingRecipe):
    """Network, code and loss of an autoencoder on square images; it needs no labels."""

    network: AutoencoderNetwork = Field(default="strong", description="see derm_ml/nets/autoencoder.py")
    code: int = Field(
        default=256,
        ge=2,
        le=4096,
        description="numbers in the linear bottleneck; the faithful code follows from the side",
    )
    image: AutoencoderImage = AutoencoderImage()
    objective: ReconstructionObjective = ReconstructionObjective()


class StrongAutoencoder(AutoencoderRecipe):
    """Deeper, a linear bottleneck of 256 numbers, ten times the parameters, upsampling + convolution, SSIM in the loss.

    Command: `derm autoencode TASK --recipe strong_autoencoder`. About as fast as `faithful_autoencoder`.
    """

    optimiser: Optimiser = Optimiser(epochs=20, learning_rate=2e-3, weight_decay=1e-4)
    objective: ReconstructionObjective = ReconstructionObjective(
        pixel_loss="l1",
        ssim_weight=0.2,  # more of it sharpens hairs and loses colours
    )


class FaithfulAutoencoder(AutoencoderRecipe):
    """The original: five convolutions with max-pooling, code 8 × 7 × 7, transposed convolutions, squared error.

    Command: `derm autoencode TASK --recipe faithful_autoencoder`.
    """

    optimiser: Optimiser = Optimiser(epochs=20, optimizer="adam", weight_decay=0.0)
    network: AutoencoderNetwork = "faithful"


class DrawnAutoencoder(AutoencoderRecipe):
    """A few passes at 64 pixels, for drawn pictures: the demo and the tests. Under a minute on two cores."""

    optimiser: Optimiser = Optimiser(epochs=12, batch_size=16, learning_rate=2e-3)
    image: AutoencoderImage = AutoencoderImage(side=64)
    code: int = 32


AUTOENCODERS: dict[str, type[AutoencoderRecipe]] = {
    "strong_autoencoder": StrongAutoencoder,
    "faithful_autoencoder": FaithfulAutoencoder,
    "drawn_autoencoder": DrawnAutoencoder,
}
