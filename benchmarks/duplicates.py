"""What the search for duplicates finds, what it takes for a copy wrongly, and what it costs.

python benchmarks/duplicates.py recall [FOLDER ...]    copies found, by the way they were changed; else synthetic
python benchmarks/duplicates.py pairs FOLDER ...       every pair named within real images, with sheets to look at
python benchmarks/duplicates.py missed FOLDER ...      what the cells of the search miss of an exact one
python benchmarks/duplicates.py cost 2500 5000 10000   CPU seconds and peak memory by the number of images
"""

from __future__ import annotations

import argparse
import math
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from derm_ml.images import duplicates, patch_search
from derm_ml.images.changes import LEAKS
from derm_ml.images.decode import decode
from derm_ml.images.duplicates import THRESHOLD, Sequenced, find_duplicates
from derm_ml.images.fingerprints import compare, fingerprint
from derm_ml.images.stored_prints import StoredPrints
from derm_ml.synthetic.lesions import CLASSES, draw_lesion

SHOWN = 24  # pairs on a sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    recall_of = commands.add_parser("recall")
    recall_of.add_argument("folders", nargs="*", type=Path)
    recall_of.add_argument("--copied", type=int, default=40, help="images that are copied, of each folder")
    recall_of.add_argument("--others", type=int, default=500, help="images beside them, of each folder")
    recall_of.add_argument(
        "--at-once", type=int, default=duplicates.AT_ONCE, help="images that also ask about those behind them"
    )
    recall_of.set_defaults(run=lambda a: recall(a.folders, a.copied, a.others, a.at_once))
    pairs_of = commands.add_parser("pairs")
    pairs_of.add_argument("folders", nargs="+", type=Path)
    pairs_of.add_argument("--from-score", type=float, default=THRESHOLD)
    pairs_of.add_argument("--sheets", type=Path, help="where contact sheets of the pairs are written")
    pairs_of.set_defaults(run=lambda a: pairs(a.folders, a.from_score, a.sheets))
    cost_of = commands.add_parser("cost")
    cost_of.add_argument("sizes", nargs="+", type=int)
    cost_of.set_defaults(run=lambda a: cost(a.sizes))
    missed_of = commands.add_parser("missed")
    missed_of.add_argument("folders", nargs="+", type=Path)
    missed_of.add_argument("--n", type=int, default=1000, help="images of each folder")
    missed_of.set_defaults(run=lambda a: missed(a.folders, a.n))
    one_of = commands.add_parser("one")
    one_of.add_argument("size", type=int)
    one_of.set_defaults(run=lambda a: one(a.size))
    chosen = parser.parse_args()
    chosen.run(chosen)


def recall(folders: list[Path], copied: int, others: int, at_once: int) -> None:
    """Of `copied` images each, beside `others` that are no copies, as they come under another name."""
    duplicates.AT_ONCE = at_once
    sets = [_chosen(folder, copied + others) for folder in folders]
    images = {f"{path}": _read(path) for chosen in sets for path in chosen[:copied]}
    around = {f"{path}": fingerprint(_read(path)) for chosen in sets for path in chosen[copied:]}
    if not folders:
        images = {f"{k}": draw_lesion(CLASSES[k % 3], 9000 + k, side=144, width=192).image for k in range(copied)}
    originals = {name: fingerprint(image) for name, image in images.items()} | around
    before = {(pair.a, pair.b) for pair in find_duplicates(originals)}
    halves = [set(list(images)[half::2]) for half in (0, 1)]
    print(f"{len(originals)} images, {len(before)} pairs among them; found of the copies of each half:")
    for way, change in LEAKS.items():
        copies = {f"{name} copy": fingerprint(change(image)) for name, image in images.items()}
        found = {(pair.a, pair.b) for pair in find_duplicates(originals | copies)}
        right = [sum((name, f"{name} copy") in found for name in half) for half in halves]
        said = ", ".join(f"{n} of {len(half)}" for n, half in zip(right, halves, strict=True))
        wrong = {(a.removesuffix(" copy"), b.removesuffix(" copy")) for a, b in found - before}
        wrong = {pair for pair in wrong if pair[0] != pair[1] and pair not in before}
        print(f"{way}: {said}; {len(wrong)} other pairs", flush=True)


def pairs(folders: list[Path], lowest: float, sheets: Path | None) -> None:
    """Every pair at or above a score, the surest last, with contact sheets where asked."""
    paths = [path for folder in folders for path in _images(folder)]
    found = find_duplicates({f"{path}": fingerprint(_read(path)) for path in paths}, lowest)
    found.sort(key=lambda pair: pair.score)
    for pair in found:
        print(f"{pair.score:.3f} {pair.kind} {Path(pair.a).stem} {Path(pair.b).stem}")
    print(f"{len(found)} pairs among {len(paths)} images, {1000 * len(found) / len(paths):.2f} per thousand")
    for start in range(0, len(found), SHOWN):
        if sheets is None:
            break
        sheets.mkdir(parents=True, exist_ok=True)
        tiles = [np.hstack([_tile(pair.a), _tile(pair.b)]) for pair in found[start : start + SHOWN]]
        tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % 4)
        sheet = np.vstack([np.hstack(tiles[k : k + 4]) for k in range(0, len(tiles), 4)])
        cv2.imwrite(str(sheets / f"{start:05d}.png"), sheet[..., ::-1])


def cost(sizes: list[int]) -> None:
    """Each size in a process of its own, so that its peak of memory is its own; the slope between two sizes."""
    before: tuple[int, float] | None = None
    for size in sizes:
        done = subprocess.run([sys.executable, __file__, "one", str(size)], check=True, capture_output=True, text=True)
        made, seconds, start, peak = (float(part) for part in done.stdout.split())
        slope = math.log(seconds / before[1]) / math.log(size / before[0]) if before else float("nan")
        print(
            f"{size} images: fingerprints {made:.1f} CPU s, search {seconds:.1f} CPU s (slope {slope:.2f}), "
            f"{start:.0f} MiB before it and {peak:.0f} more at its peak",
            flush=True,
        )
        before = size, seconds


def one(size: int) -> None:
    """CPU seconds of fingerprints and search, memory, and which candidates the cells miss."""
    with tempfile.TemporaryDirectory() as folder:
        prints = StoredPrints(Path(folder))
        prints["warm"] = fingerprint(draw_lesion(CLASSES[0], 0, side=64).image)
        find_duplicates(prints)
        spent = 0.0
        for k in range(size):
            image = draw_lesion(CLASSES[k % 3], k, side=64).image
            start = time.process_time()
            prints[f"{k}"] = fingerprint(image)
            spent += time.process_time() - start
        before, start = _peak(), time.process_time()
        find_duplicates(prints)
        print(spent, time.process_time() - start, before, _peak() - before)


def missed(folders: list[Path], n: int) -> None:
    """How many candidate pairs of an exact search are not among those of the cells, and how many right ones."""
    paths = [path for folder in folders for path in _chosen(folder, n)]
    prints = {f"{path}": fingerprint(_read(path)) for path in paths}
    names = sorted(prints)
    found = [set(), set()]
    for which, cells in enumerate((patch_search.CELLS_SEARCHED, len(names))):
        patch_search.CELLS_SEARCHED = cells
        for _, some in Sequenced(prints, names, names).candidates():
            found[which] |= {
                (min(a, b), max(a, b)) for a, b in zip(some["a"].tolist(), some["b"].tolist(), strict=True)
            }
    right = {
        p
        for p in found[1]
        if any(compare(prints[names[p[0]]], prints[names[p[1]]], m) >= THRESHOLD for m in (False, True))
    }
    print(
        f"{len(names)} images, {len(found[1])} candidates of an exact search, {len(found[1] - found[0])} missed by the"
    )
    print(f"cells; of the {len(right)} that are duplicates, {len(right - found[0])} missed")


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _images(folder: Path) -> Iterator[Path]:
    yield from sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))


def _chosen(folder: Path, n: int) -> list[Path]:
    paths = list(_images(folder))
    return [paths[k] for k in np.random.default_rng(0).permutation(len(paths))[:n]]


def _read(path: Path) -> np.ndarray:
    return decode(path.read_bytes())


def _tile(name: str) -> np.ndarray:
    return cv2.resize(_read(Path(name)), (160, 160), interpolation=cv2.INTER_AREA)


if __name__ == "__main__":
    main()
