"""The pages of evidence that are drawn from others: what the results teach, and what the tasks say they cannot do."""

from __future__ import annotations

import re

import yaml

from derm_ml.places import PROJECT
from derm_ml.registry import all_tasks
from documents.markdown import code, page, plain

HEADINGS = {
    "population": "Population",
    "out_of_scope": "Out of scope",
    "limitations": "Limitations",
    "risks": "Risks",
    "reference_standard": "Reference standard",
}


def lessons() -> str:
    """Each paragraph "What it teaches" of the results, under the heading where it stands there."""
    text = (PROJECT / "docs" / "results.md").read_text(encoding="utf-8")
    parts = [
        "What the measurements on real images taught, without the figures. Each heading leads to the section of "
        "[Results](results.md) with its tables, intervals and commands. What did not help: "
        "[Negative results](negative_results.md)."
    ]
    for heading, section in sections(text):
        found = re.search(r"\*\*What it teaches\.\*\*\s*(.+?)(?=\n#|\n```|\n\*\*[A-Z]|\Z)", section, re.DOTALL)
        if found:
            parts += [f"## {heading}", f"[The figures](results.md#{slug(heading)})", found[1].strip()]
    return page("What it teaches", *parts)


def sections(text: str) -> list[tuple[str, str]]:
    """(heading, text up to the next heading) of a page; what looks like one in a block of code is none."""
    plain_text = re.sub(r"^```.*?^```$", lambda block: re.sub(r"^#", "\\#", block[0], flags=re.MULTILINE), text,
                        flags=re.MULTILINE | re.DOTALL)  # fmt: skip
    parts = re.split(r"^#{2,3} (.+)$", plain_text, flags=re.MULTILINE)
    return list(zip(parts[1::2], parts[2::2], strict=True))


def slug(heading: str) -> str:
    """The anchor of a heading, as the site and GitHub make it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def limitations() -> str:
    """What the tasks' cards say of their limits."""
    parts = [
        "What each task's card says: it stands in every model card too, and an empty field refuses promotion "
        "([Model card and data card](cards.md)).",
    ]
    for task in all_tasks().values():
        card = yaml.safe_load((PROJECT / "derm_ml" / "tasks" / task.name / "card.yaml").read_text(encoding="utf-8"))
        parts += [f"## {task.name}", plain(card["intended_use"]) + f" Users: {plain(card['intended_users'])}"]
        for field, heading in HEADINGS.items():
            said = card[field]
            listed = "\n".join(f"- {plain(one)}" for one in said) if isinstance(said, list) else plain(said)
            parts += [f"**{heading}**", listed]
        parts.append(f"From {code(f'derm_ml/tasks/{task.name}/card.yaml')}.")
    return page("Limitations", *parts)
