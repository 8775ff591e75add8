"""How often do the intervals hold the true value, and how often does a paired comparison reject a true null?

    python benchmarks/coverage.py                    the grid of docs/intervals.md, half an hour and more on one core
    python benchmarks/coverage.py --data-sets 200    rougher and faster

Patients are drawn whose images share a part of what makes their label and their score (`correlation`, on the scale of
a normal variable), so the true AUC is known: Φ(μ/√2) for scores that differ by μ between positives and negatives. Each
data set is measured by the functions every report uses. `percentile` is the interval that percentiles of the same
resamples would give.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.stats import beta, norm

from derm_ml.metrics.classification import auc, patients_of_the_rarer
from derm_ml.metrics.intervals import Statistic, bootstrap, draws, paired_difference, weighted_mean
from derm_ml.metrics.screening import HIGH_RECALL, partial_auc

DESIGNS = ((20, 3), (40, 1), (40, 5), (100, 2), (200, 1), (150, 4))  # patients, images of each
FEW = ((30, 1), (60, 1), (100, 1))  # with a prevalence of 0.1: 3, 6 and 10 positives
AGREEMENT = 0.7  # of the noise two compared models have in common
CONCENTRATION = 4.0  # of the beta distribution Dice is drawn from, with a mean of 0.85


@dataclass(frozen=True)
class Design:
    """What data sets are drawn of; `area` is the true AUC."""

    patients: int
    images: int
    prevalence: float
    correlation: float
    area: float = 0.85

    @property
    def groups(self) -> np.ndarray:
        return np.repeat(np.arange(self.patients), self.images)

    @property
    def shift(self) -> float:
        return float(norm.ppf(self.area) * np.sqrt(2))

    def noise(self, rng: np.random.Generator) -> np.ndarray:
        """(N,) standard normal, correlated within a patient."""
        common, own = rng.normal(size=self.patients)[self.groups], rng.normal(size=len(self.groups))
        return np.sqrt(self.correlation) * common + np.sqrt(1 - self.correlation) * own

    def targets(self, rng: np.random.Generator) -> np.ndarray:
        """(N,) of 1 and 0; drawn again until two patients have a positive and two a negative."""
        while True:
            y = (self.noise(rng) < norm.ppf(self.prevalence)).astype(float)
            if patients_of_the_rarer(y, self.groups) >= 2:
                return y

    def scores(self, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """(N, 2): two models with the same true AUC, that agree for a part."""
        common = np.sqrt(AGREEMENT) * self.noise(rng)
        each = [common + np.sqrt(1 - AGREEMENT) * self.noise(rng) for _ in range(2)]
        return np.stack([self.shift * y + own for own in each], axis=1)


def percentiles(statistic: Statistic, groups: np.ndarray, *arrays: np.ndarray, n: int) -> tuple[float, float]:
    """The 95 % interval as percentiles of the resamples."""
    low, high = np.nanpercentile(np.concatenate([statistic(*arrays, w) for w in draws(groups, n, 0)]), [2.5, 97.5])
    return float(low), float(high)


def area_rows(designs: list[Design], data_sets: int, resamples: int) -> Iterator[dict[str, str]]:
    """One row a design: coverage of the AUC's interval both ways, its mean width, and how often a null is rejected."""
    for design in designs:
        rng = np.random.default_rng(0)
        found = []
        for _ in range(data_sets):
            y = design.targets(rng)
            a, b = design.scores(y, rng).T
            rarer = patients_of_the_rarer(y, design.groups)
            low, high = bootstrap(auc, design.groups, a, y, rests_on=rarer, n=resamples)
            before = percentiles(auc, design.groups, a, y, n=resamples)
            difference = paired_difference(auc, design.groups, a, b, y, n=resamples)
            if low is None or high is None:
                continue
            inside = low <= design.area <= high, before[0] <= design.area <= before[1]
            found.append((*inside, high - low, not difference.low <= 0 <= difference.high, rarer))
        inside, before, width, rejected, rarer = np.mean(np.array(found, float), axis=0)
        yield {
            "patients × images": f"{design.patients} × {design.images}",
            "prevalence": f"{design.prevalence:g}",
            "correlation": f"{design.correlation:g}",
            "AUC": f"{design.area:g}",
            "patients of the rarer class": f"{rarer:.0f}",
            "percentile": f"{before:.3f}",
            "covers": f"{inside:.3f}",
            "width": f"{width:.2f}",
            "null rejected": f"{rejected:.3f}",
        }


def other_rows(data_sets: int, resamples: int) -> Iterator[dict[str, str]]:
    """Coverage for other kinds of metric: the mean of a score of each image, and the area of a part of the curve."""
    for design in (Design(p, m, 0.3, r, 0.85) for p, m in DESIGNS[:4] for r in (0.0, 0.5)):
        rng, groups = np.random.default_rng(0), design.groups
        whole = 1 - HIGH_RECALL
        grid = np.linspace(0, 1, 20_001)
        curve = norm.cdf(design.shift + norm.ppf(grid))
        true_part = float(np.trapezoid(np.clip(curve - HIGH_RECALL, 0, None), grid))
        found = []
        for _ in range(data_sets):
            y = design.targets(rng)
            scores = design.scores(y, rng)[:, 0]
            shape = 0.85 * CONCENTRATION, 0.15 * CONCENTRATION
            dice = beta.ppf(norm.cdf(design.noise(rng)), *shape)
            part = bootstrap(partial_auc, groups, scores, y, limits=(0.0, whole), n=resamples)
            mean = bootstrap(weighted_mean, groups, dice, n=resamples)
            was = percentiles(weighted_mean, groups, dice, n=resamples)
            ends = ((true_part, percentiles(partial_auc, groups, scores, y, n=resamples)), (true_part, part),
                    (0.85, was), (0.85, mean))  # fmt: skip
            found.append([low is not None and high is not None and low <= t <= high for t, (low, high) in ends])
        shares = np.mean(np.array(found, float), axis=0)
        yield {
            "patients × images": f"{design.patients} × {design.images}",
            "correlation": f"{design.correlation:g}",
            "partial AUC, percentile": f"{shares[0]:.3f}",
            "partial AUC, covers": f"{shares[1]:.3f}",
            "mean Dice, percentile": f"{shares[2]:.3f}",
            "mean Dice, covers": f"{shares[3]:.3f}",
        }


def show(rows: Iterator[dict[str, str]]) -> None:
    """Print rows as a Markdown table, each as soon as it is there."""
    for number, row in enumerate(rows):
        if not number:
            print("| " + " | ".join(row) + " |\n|" + "---|" * len(row))
        print("| " + " | ".join(row.values()) + " |", flush=True)
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-sets", type=int, default=1000, help="drawn for each design: 1000 give ±0.014")
    parser.add_argument("--resamples", type=int, default=300, help="of the patients of each data set")
    given = parser.parse_args()
    designs = [
        Design(patients, images, prevalence, correlation, area)
        for patients, images in DESIGNS
        for prevalence in (0.1, 0.3)
        for correlation in (0.0, 0.5)
        for area in (0.85, 0.95)
    ]
    few = [Design(patients, images, 0.1, 0.0, area) for patients, images in FEW for area in (0.75, 0.85, 0.95)]
    show(area_rows(designs, given.data_sets, given.resamples))
    show(area_rows(few, given.data_sets, given.resamples))
    show(other_rows(given.data_sets, given.resamples))


if __name__ == "__main__":
    main()
