"""Where the verbs write: results to stdout, everything else to stderr.

Both are consoles that take text as it is: names, labels and reasons come from data, so a `[left]` in a file name is
no style, `:x:` no emoji, and an escape sequence is written out. Styles are arguments: `notes.print(line, style="red")`.
"""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.status import Status
from rich.table import Table
from rich.text import Text

from derm_ml.escape import visible
from derm_ml.files import replacing_file
from derm_ml.machine import WriteError
from derm_ml.progress import EpochReport, duration
from derm_ml.task import Finding, Task

if TYPE_CHECKING:
    from derm_ml.data.dataset import Dataset


class LiteralConsole(Console):
    """A console that prints every text as it is written, cells of tables, titles and status lines included."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, **options)

    def status(self, status: RenderableType, **options: Any) -> Status:
        """A line that stands while something is done."""
        return super().status(Text(visible(status)) if isinstance(status, str) else status, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Every string that is not a `Text` yet comes through here."""
        return super().render_str(visible(text, keep="\n\t"), **options)


out_console, notes = LiteralConsole(), LiteralConsole(stderr=True)


def print_result(result: Path | str) -> None:
    """A line of the answer on stdout: the bare path for a program, nothing that acts on a terminal for a person."""
    print_line(visible(str(result)) if sys.stdout.isatty() else str(result))


def print_line(line: str) -> None:
    """One line of the result, at once: what was answered stands even if the next answer never comes.

    Raises `WriteError` if the file behind stdout has no room.
    """
    try:
        print(line, flush=True)
    except OSError as error:
        if error.errno == errno.EPIPE:  # `derm … | head`: the reader has enough
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still buffered would fail again
        raise WriteError.of(Path("the standard output"), error.strerror or str(error)) from error


def write_png(path: Path, image: Any) -> None:
    """Write an RGB image (H, W, 3) or a mask (H, W), both uint8, whole or not at all."""
    import cv2

    with replacing_file(path) as temporary:
        ordered = image[..., ::-1] if image.ndim == 3 else image
        temporary.write_bytes(cv2.imencode(".png", ordered)[1].tobytes())


def print_table(table: Table, note: bool = False) -> None:
    """The table at the width it needs, on stderr if it is a `note`: a figure that is cut off helps nobody, and a pipe
    has no width."""
    needed = LiteralConsole(width=1000).measure(table).maximum
    LiteralConsole(stderr=note, width=max(out_console.width, needed)).print(table)


def print_narrow(table: Table) -> None:
    """The table within 80 columns, long cells on several lines: for a list that is read on any terminal."""
    LiteralConsole(width=80).print(table)


def print_finding(name: str, finding: Finding) -> None:
    """A check's answer on one line, after a mark: passed, failed, or not enough data, which is grey."""
    mark = Text("✗", "red") if finding.evaluable else Text("⚠", "bright_black")
    mark = Text("✓", "green") if finding.passed else mark
    said = finding.message
    if finding.needed:
        said = f"not enough data: {said.removeprefix('not checked: ')}"
    notes.print(mark, f"{name}: {said}", soft_wrap=True)


PAUSE = 15.0  # seconds between two lines of progress in a log


class Lines:
    """Progress for a log: `predict · 120 of 600, about 4 min left`, at most every `PAUSE` seconds."""

    def __init__(self, title: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._title, self._clock = title, clock
        self._steps: list[_Step] = []
        self._said = clock()

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def add_task(self, description: str, *, total: float | None = None) -> int:
        self._steps.append(_Step(description, total, self._clock()))
        return len(self._steps) - 1

    def update(self, task_id: int, *, total: float | None = None, completed: float | None = None) -> None:
        step = self._steps[task_id]
        step.total = total or step.total
        step.done = step.done if completed is None else completed
        now = self._clock()
        if now - self._said >= PAUSE:
            self._said = now
            notes.print(f"{self._title} · {step.told(now)}", soft_wrap=True)

    def advance(self, task_id: int, advance: float = 1) -> None:
        self.update(task_id, completed=self._steps[task_id].done + advance)


@dataclass
class _Step:
    description: str
    total: float | None
    begun: float
    done: float = 0

    def told(self, now: float) -> str:
        name = f"{self.description}: " if self.description else ""
        if not self.total:
            return f"{name}{self.done:.0f} so far"
        left = (now - self.begun) / self.done * (self.total - self.done) if self.done else None
        return f"{name}{self.done:.0f} of {self.total:.0f}" + (f", about {duration(left)} left" if left else "")


def progress_bar(title: str) -> Progress | Lines:
    """A bar where somebody looks on, lines where the output goes into a file or a pipe."""
    if not notes.is_terminal:
        return Lines(title)
    return Progress(
        TextColumn(f"{title} · {{task.description}}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=notes,
    )


def say_epoch(report: EpochReport) -> None:
    """One line of at most 80 columns: what was learned, what validation says, and how long the rest will take."""
    losses = f"loss train {report.train_loss:.4f}"
    if "loss" in report.metrics:
        losses += f" val {report.metrics['loss']:.4f}"
    left = report.seconds * (report.epochs - report.epoch)
    after = [f"{duration(left)} left"] if left else [duration(report.seconds)]
    after += ["best"] if report.best else []
    line = f"{report.epoch:3d}/{report.epochs}  {losses}"
    room = 80 - len("  ".join(["", *after]))
    for name, value in report.metrics.items():
        figure = f"  {name} {value:.4f}"
        if name != "loss" and len(line) + len(figure) <= room:
            line += figure
    notes.print("  ".join([line, *after]), soft_wrap=True)


def print_rules(task: Task, dataset: Dataset) -> bool:
    """Print every data check; False if a blocking one is red."""
    usable = True
    for rule in task.rules:
        finding = rule.check(dataset)
        usable = usable and not rule.stops(finding)
        print_finding(rule.name, finding)
    return usable
