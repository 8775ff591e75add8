"""The recipes of the autoencoder, the same for every task. The first is what `derm autoencode` uses."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from derm_ml.training.settings import TrainingRecipe


class AutoencoderRecipe(TrainingRecipe):
    """Network, code and loss of an autoencoder on square pictures; it needs no labels."""

    network: Literal["strong", "faithful"] = Field("strong", description="see derm_ml/nets/autoencoder.py")
    code: int = Field(
        256, ge=2, le=4096, description="numbers in the linear bottleneck; the faithful code follows from the side"
    )
    side: int = Field(224, ge=32, le=1024, multiple_of=32, description="pixels of the square picture")
    squaring: Literal["squash", "crop", "pad"] = Field("squash", description="how a picture becomes a square")
    augmentation: Literal["none", "flips"] = Field("flips", description="colour and scale are what it must reproduce")
    pixel_loss: Literal["mse", "l1"] = Field("mse", description="per pixel and channel, on 0..1")
    ssim_weight: float = Field(0.0, ge=0, lt=1, description="share of 1 - SSIM in the loss")


class StrongAutoencoder(AutoencoderRecipe):
    """Deeper, a linear bottleneck of 256 numbers, ten times the parameters, upsampling + convolution, SSIM in the loss.

    Command: `derm autoencode TASK --recipe strong_autoencoder`. About as fast as `faithful_autoencoder`.
    """

    epochs: int = 20
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    pixel_loss: Literal["mse", "l1"] = "l1"
    ssim_weight: float = 0.2  # more of it sharpens hairs and loses colours


class FaithfulAutoencoder(AutoencoderRecipe):
    """The original: five convolutions with max-pooling, code 8 × 7 × 7, transposed convolutions, squared error.

    Command: `derm autoencode TASK --recipe faithful_autoencoder`.
    """

    epochs: int = 20
    network: Literal["strong", "faithful"] = "faithful"
    optimizer: Literal["adamw", "adam", "sgd"] = "adam"
    weight_decay: float = 0.0


class DrawnAutoencoder(AutoencoderRecipe):
    """A few passes at 64 pixels, for drawn pictures: the demo and the tests. Under a minute on two cores."""

    epochs: int = 12
    side: int = 64
    code: int = 32
    batch_size: int = 16
    learning_rate: float = 2e-3


AUTOENCODERS: dict[str, type[AutoencoderRecipe]] = {
    "strong_autoencoder": StrongAutoencoder,
    "faithful_autoencoder": FaithfulAutoencoder,
    "drawn_autoencoder": DrawnAutoencoder,
}
