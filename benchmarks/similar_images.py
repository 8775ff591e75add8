"""What an index of similar images costs, and what the approximate one misses.

    python benchmarks/similar_images.py --sizes 10000 100000 1000000

For each number of vectors and each kind of index, in a process of its own and on one thread: CPU seconds to build,
memory the index holds, CPU milliseconds of one query alone and in a batch, recall@10 against the exact answer. The
vectors are drawn as embeddings lie: 2000 clumps of unequal size in 32 dimensions, turned into `--dimension`, blurred.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import faiss
import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

from derm_ml.embeddings.extract import unit
from derm_ml.images.index import Kind, VectorIndex
from derm_ml.places import installation

QUERIES, ALONE, K = 1000, 200, 10
PART = 100_000  # vectors drawn at once
CLUMPS, INNER = 2000, 32


def draw(n: int, dimension: int, seed: int) -> Iterator[np.ndarray]:
    """Unit vectors (≤ PART, D) float32, `n` in all; `seed` 0 is the set, others are queries from the same clumps."""
    shape = np.random.default_rng(99)
    centres = shape.normal(size=(CLUMPS, INNER))
    frame = np.linalg.qr(shape.normal(size=(dimension, INNER)))[0].T
    share = shape.dirichlet(np.ones(CLUMPS))
    rng = np.random.default_rng(seed)
    for start in range(0, n, PART):
        count = min(PART, n - start)
        inner = centres[rng.choice(CLUMPS, count, p=share)] + 0.6 * rng.normal(size=(count, INNER))
        yield unit((inner @ frame).astype(np.float32) + 0.02 * rng.standard_normal((count, dimension), np.float32))


def measure(n: int, dimension: int, kind: Kind, truth: Path) -> dict[str, float]:
    """Build one index, ask it, compare with `truth` (which the exact one writes)."""
    faiss.omp_set_num_threads(1)
    vectors = np.empty((n, dimension), np.float32)
    place = 0
    for part in draw(n, dimension, 0):
        vectors[place : place + len(part)] = part
        place += len(part)
    queries = next(draw(QUERIES, dimension, 1))
    own = psutil.Process().memory_info().rss
    start = time.process_time()
    index = VectorIndex.build(vectors, kind)
    built = time.process_time() - start
    held = psutil.Process().memory_info().rss - own
    del vectors
    start = time.process_time()
    for query in queries[:ALONE]:
        index.search(query[None], K)
    alone = (time.process_time() - start) / ALONE
    start = time.process_time()
    _, found = index.search(queries, K)
    batch = (time.process_time() - start) / QUERIES
    if kind == "exact":
        np.save(truth, found)
    wanted = np.load(truth)
    recall = np.mean([len(set(a) & set(b)) / K for a, b in zip(wanted, found, strict=True)])
    return {
        "build_s": built,
        "index_mb": held / 2**20,
        "alone_ms": 1000 * alone,
        "batch_ms": 1000 * batch,
        "recall": float(recall),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--folder", type=Path, default=installation().out / "benchmarks")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)  # a size and a kind: the child process
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    if given.one:
        n = int(given.one[0])
        kind: Kind = "exact" if given.one[1] == "exact" else "approximate"
        print(json.dumps(measure(n, given.dimension, kind, given.folder / f"neighbours-{n}-{given.dimension}.npy")))
        return
    table = Table("vectors", "index", "build s", "memory MB", "one query ms", "in a batch ms", "recall@10")
    for n in given.sizes:
        for kind in ("exact", "approximate"):
            command = [sys.executable, __file__, "--one", str(n), kind, "--dimension", str(given.dimension)]
            done = subprocess.run([*command, "--folder", str(given.folder)], stdout=subprocess.PIPE, check=True)
            r = json.loads(done.stdout)
            table.add_row(
                f"{n:,}", kind, f"{r['build_s']:.1f}", f"{r['index_mb']:.0f}", f"{r['alone_ms']:.2f}",
                f"{r['batch_ms']:.2f}", f"{r['recall']:.4f}",
            )  # fmt: skip
            print(n, kind, r, flush=True)
    Console().print(table)


if __name__ == "__main__":
    main()
