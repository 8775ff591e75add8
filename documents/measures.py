"""The pages of checks, metrics, data sets and files on disk, from what the code declares."""

from __future__ import annotations

import re

from derm_ml.data.catalogue import catalogue
from derm_ml.formats import FORMATS
from derm_ml.metrics.glossary import every_metric
from derm_ml.places import PROJECT
from derm_ml.registry import all_tasks
from documents.markdown import MADE, code, page, plain, table


def checks() -> str:
    """Every check of data and of models, and which tasks ask it."""
    tasks = all_tasks().values()
    rules = {rule.name: rule for task in tasks for rule in task.rules}
    gates = {gate.name: gate for task in tasks for gate in task.gates}
    asked_by = {
        name: [task.name for task in tasks if name in {one.name for one in (*task.rules, *task.gates)}]
        for name in (*rules, *gates)
    }

    def who(name: str) -> str:
        return "all tasks" if len(asked_by[name]) == len(tasks) else ", ".join(map(code, asked_by[name]))

    return page(
        "Checks",
        MADE,
        "The name of a check is a sentence that is true when it passes. A blocking check that fails stops the pipeline "
        "(data) or refuses promotion (models); one that does not block warns. A check for which there are not enough "
        "data is neither: it is named with every decision.",
        "## Of a dataset, before training",
        table(
            ["check", "what it says", "blocks", "asked by"],
            [[code(n), plain(r.description), "yes" if r.blocking else "warns", who(n)] for n, r in rules.items()],
        ),
        "## Of a model, before promotion",
        table(
            ["check", "what it says", "guards against", "blocks", "asked by"],
            [
                [code(n), plain(g.description), plain(g.hazard), "yes" if g.blocking else "warns", who(n)]
                for n, g in gates.items()
            ],
        ),
        "The limits are those of [the policies](policies.md).",
    )


def metrics() -> str:
    """Every metric: name, title, direction, range, and what it means."""
    rows = []
    for name, of in every_metric().items():
        ends = ["–∞" if of.low is None else f"{of.low:g}", "∞" if of.high is None else f"{of.high:g}"]
        title = re.sub(r"<label>", "…", of.title)
        span = f"{' to '.join(ends)}{' ' + of.unit if of.unit else ''}"
        rows.append([code(name), plain(title), of.arrow, span, plain(of.sentence)])
    return page(
        "Metrics",
        MADE,
        "Names are those of `evaluation.json`, of MLflow and of `derm compare`. ↑: higher is better, ↓: lower is "
        "better. Appended to a name: `_at_<point>` (at an operating point), `_uncalibrated` (before calibration). "
        "`code_` before it: of an autoencoder's codes. Each has an interval and its n, or a reason why it is undefined "
        "([Intervals](../intervals.md)).",
        table(["name", "title", "", "range", "what"], rows),
    )


def terms() -> str:
    """The glossary's part about metrics: one plain sentence for each term."""
    described = {of.term: of for of in every_metric().values()}
    lines = [f"{term}\n: {plain(of.sentence)} {_direction(of.direction)}" for term, of in sorted(described.items())]
    return "\n\n".join(lines)


def _direction(direction: str) -> str:
    return f"{direction[0].upper()}{direction[1:]}."


def glossary() -> str:
    """The glossary: what people wrote of words, and what the registry says of metrics."""
    written = (PROJECT / "docs" / "glossary_words.md").read_text(encoding="utf-8")
    return written.replace("<!-- metrics -->", terms())


def datasets() -> str:
    """The catalogue of public data sets."""
    entries = catalogue().values()
    rows = [
        [code(e.name), plain(e.title), code(e.task), e.size or "–", plain(e.licence), f"[page]({e.homepage})",
         "yes" if e.files else "no"]
        for e in entries
        if not e.is_model
    ]  # fmt: skip
    models = [
        [code(e.name), plain(e.title), e.size or "–", plain(e.licence), f"[page]({e.homepage})"]
        for e in entries
        if e.is_model
    ]
    return page(
        "Public data sets",
        MADE,
        "`derm fetch NAME` downloads one whose last column says yes; the others ask for a form, an account or a "
        "choice. `derm fetch list NAME` prints licence, terms and citation in full, and where the size comes from. "
        "Read the licence on the publisher's page before you use a set.",
        table(["name", "what", "task", "size", "licence", "publisher", "fetched"], rows),
        "## Weights of published networks",
        table(["name", "what", "size", "licence", "publisher"], models),
    )


def files() -> str:
    """Every format on disk and its history, which is that of the changelog."""
    log = (PROJECT / "CHANGELOG.md").read_text(encoding="utf-8")
    history = re.search(r"### Formats\n(.*?)(?=\n## |\Z)", log, re.DOTALL)
    assert history, "CHANGELOG.md has no section Formats"
    rows = [[code(f.name), f.version, f"{f.readable[0]} to {f.version}", plain(f.again)] for f in FORMATS.values()]
    return page(
        "File formats",
        MADE,
        "Each file says its version as `schema_version`; one that says none is version 1. A file of a version that is "
        "not read is refused in a sentence that names the file, both versions and what to do.",
        table(["format", "written", "read", "otherwise"], rows),
        "## History",
        re.sub(r"\]\(docs/", "](../", history[1]),
    )
