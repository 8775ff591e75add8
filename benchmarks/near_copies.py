"""How many copies of a synthetic image the search for near-duplicates finds, by the way the copy was changed.

python benchmarks/near_copies.py            40 images, ten ways, some seconds
"""

from __future__ import annotations

from derm_ml.images.changes import LEAKS
from derm_ml.images.fingerprints import find_duplicates, fingerprint
from derm_ml.synthetic.lesions import CLASSES, draw_lesion

N = 40


def main() -> None:
    images = {f"{k}": draw_lesion(CLASSES[k % 3], 9000 + k, side=144, width=192).image for k in range(N)}
    originals = {name: fingerprint(image) for name, image in images.items()}
    copied = {(name, f"{name} copy") for name in images}
    for way, change in LEAKS.items():
        copies = {f"{name} copy": fingerprint(change(image)) for name, image in images.items()}
        found = {(pair.a, pair.b) for pair in find_duplicates(originals | copies)}
        print(f"{way}: {len(found & copied)} of {N} copies found, {len(found - copied)} pairs of different lesions")


if __name__ == "__main__":
    main()
