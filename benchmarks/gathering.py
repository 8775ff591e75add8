"""Would gathering requests into batches pay? Images a second of a predictor asked for 1, 2, 4 and 8 images at a time.

    python -m benchmarks.gathering                                       # ResNet-18 at 128 px, four views
    python -m benchmarks.gathering --backbone tf_efficientnet_lite0 --side 192
    python -m benchmarks.gathering --views none                          # a network that is asked once, as a student is

As the service does, two threads ask at once, with the cores used as `serving.sessions` chose for this network; each
image is decoded and made square first. All sizes are measured by turns in each round; the medians count. Gathering
pays where calls of several images beat those of one by more than waiting for the others costs.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

from benchmarks.endpoint_load import an_image, together, write_bundle
from derm_ml.bundles.classifier import Classifier
from derm_ml.bundles.views import VIEWS
from derm_ml.images.decode import decode
from serving import sessions

SIZES = (1, 2, 4, 8)
WORKERS = 2


def images_a_second(predictor: Classifier, size: int, body: bytes, seconds: float) -> float:
    """Of two threads, each asking for `size` images at a time."""

    def ask() -> object:
        return predictor([decode(body) for _ in range(size)])

    return size * together([ask] * WORKERS, seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--views", default="flips", choices=VIEWS, help="of each image")
    parser.add_argument("--int8", action="store_true", help="the graph computes with 8-bit integers")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement of a round")
    given = parser.parse_args()
    body = an_image()
    with tempfile.TemporaryDirectory(prefix="derm-benchmark-") as folder:
        predictor = Classifier(
            write_bundle(Path(folder) / "untrained", given.backbone, given.side, given.int8, views=given.views)
        )
        print("cores:", sessions.choose(predictor, Path(folder) / "sessions.json"))
        found: dict[int, list[float]] = {size: [] for size in SIZES}
        for _ in range(given.rounds):
            for size in SIZES:
                found[size].append(images_a_second(predictor, size, body, given.seconds))
        for size, rates in found.items():
            ratio = statistics.median(rate / one for rate, one in zip(rates, found[1], strict=True))
            print(f"{size} at a time: {statistics.median(rates):6.1f} images a second, {ratio:.2f} × one at a time")


if __name__ == "__main__":
    main()
