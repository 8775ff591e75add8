"""Which items of two reporting guidelines the cards answer, and where: for whoever writes a paper or a dossier.

TRIPOD+AI (27 items: Collins et al., BMJ 2024;385:e078378) is about prediction models, the CLAIM 2024 Update (44 items:
Tejani et al., Radiol Artif Intell 2024;6(4):e240300) about AI in medical imaging. Every item stands here. Both are
guidelines for a publication: a study's protocol, ethics or funding stand in no file of a training run.
"""

from __future__ import annotations

from dataclasses import dataclass

M, D = "model card", "data card"
ABSENT = "not covered"


@dataclass(frozen=True, slots=True)
class Item:
    """One item: the guideline, its number, what it asks, the card and section that answer it (or why none does)."""

    guideline: str
    number: str
    asks: str
    card: str
    section: str

    @property
    def where(self) -> str:
        return f"{self.card}: {self.section}"


def _items(guideline: str, rows: str) -> tuple[Item, ...]:
    found = []
    for line in rows.strip().splitlines():
        number, asks, card, section = (part.strip() for part in line.split("|"))
        found.append(Item(guideline, number, asks, {"M": M, "D": D, "-": ABSENT}[card], section))
    return tuple(found)


TRIPOD_AI = _items(
    "TRIPOD+AI",
    """
    1, 4 | title, objectives | M | Uses and directions
    2, 3a | abstract, healthcare context | - | of a publication
    3b | target population and intended users | M | Uses and directions
    3c | known health inequalities | M | Fairness and equity
    5a, 6a | sources of the data, setting | D | Sources and licences
    5b, 6b, 6c | dates, eligibility, treatments | - | the publishers of public sets do not say them image by image
    7 | data preparation | D | Preparation
    8a | outcome and how it was assessed | D | Sources and licences
    8b, 8c, 9c | assessors of outcome and predictors, blinding | - | not recorded by the data sets
    9a, 9b | choice and definition of predictors | M | Uses and directions
    10 | sample size | M | Warnings
    11 | missing data | D | What is not used
    12a | partition of the data | D | Splits
    12b, 12c | handling of predictors, type, building and tuning of the model | M | Development
    12d | heterogeneity between clusters | M | Fairness and equity
    12e | performance measures | M | Usefulness and efficacy
    12f, 24 | updating of the model | - | a model is not updated: another one is trained
    12g | how predictions are calculated | M | Reproduction
    13 | class imbalance | D | Composition
    14 | fairness | M | Fairness and equity
    15 | output and thresholds | M | Usefulness and efficacy
    16, 20c | differences between development and evaluation data | - | both are splits of one data set
    17-19 | ethics, funding, protocol, sharing, involvement | - | of a study, not of a training run
    20a, 20b | flow and characteristics of participants | D | Composition
    21 | numbers of participants and events | D | Composition
    22 | the full model | M | Reproduction
    23a | performance with confidence intervals | M | Usefulness and efficacy
    23b | heterogeneity of performance | M | Fairness and equity
    25, 26 | interpretation, limitations | M | Warnings
    27a, 27b | poor or missing input, expertise of users | M | Uses and directions
    27c | future research | - | of a publication
    """,
)
CLAIM = _items(
    "CLAIM",
    """
    1, 4, 6 | kind of AI, objectives, goal | M | Uses and directions
    2, 5 | abstract, prospective or retrospective design | - | of a publication
    3, 41 | intended use and role, implications for practice | M | Uses and directions
    7 | data sources | D | Sources and licences
    8, 13 | eligibility, acquisition protocol | - | the publishers of public sets do not say them image by image
    9 | preprocessing | M | Development
    10, 12 | subsets, missing data | D | What is not used
    11 | de-identification | - | neutral IDs and what a service keeps: docs/security.md
    14, 16 | reference standard and source of its annotations | D | Sources and licences
    15, 17, 18 | rationale, annotation of the test set, variability of raters | - | not recorded by the data sets
    19, 20 | partitions, level at which they are disjoint | D | Splits
    21 | sample size | D | Composition
    22-25 | model, software, initial weights, training | M | Development
    26, 27 | selection of the model, ensembles | M | Development
    28, 29 | metrics and their uncertainty | M | Usefulness and efficacy
    30 | robustness | M | Safety and reliability
    31 | explainability, and whether it is faithful | M | Safety and reliability
    32 | evaluation on internal data | M | Usefulness and efficacy
    33, 34 | test on external data, trial registration | - | of a study, not of a training run
    35, 36 | numbers included and excluded, characteristics | D | Composition
    37, 38 | performance and its precision | M | Usefulness and efficacy
    39 | failure analysis | M | Fairness and equity
    40 | limitations | M | Warnings
    42-44 | protocol, availability, funding | - | of a study, not of a training run
    """,
)
COVERAGE = (*TRIPOD_AI, *CLAIM)
