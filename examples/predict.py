"""Ask a trained model about one image, and see what it looked at.

python examples/predict.py /tmp/derm_example/model/bundle photo.jpg explained.png

`derm predict` and `derm explain` do the same; no PyTorch is needed here.
"""

import json
import sys
from pathlib import Path

from PIL import Image

from derm_ml.bundles.bundle import Bundle
from derm_ml.images.decode import decode
from derm_ml.registry import get_task


def main(bundle: Path, photo: Path, explained: Path) -> None:
    task = get_task(Bundle.open(bundle).card.task)  # a bundle with one changed byte is refused
    predictor = task.load(bundle)

    image = decode(photo.read_bytes())  # (H, W, 3) uint8 RGB, upright; raises ImageError with a sentence
    print(json.dumps(task.answer(predictor, image, {}), indent=2))

    Image.fromarray(task.explain(predictor, image, {"size": "512"})).save(explained)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
