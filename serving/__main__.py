"""Serve what is released, on this machine only unless told otherwise, and follow what is released next.

python -m serving                                  # all tasks, each below its name
python -m serving lesion_classification            # one task
DERM_TOKEN=… python -m serving lesion_classification --host 0.0.0.0 --port 8080
python -m serving lesion_classification --shadow lesion_classification:<version>   # ask a challenger too, unseen

What cannot be served is said in one sentence, with exit code 2, before anything of a running service is touched.
"""

from __future__ import annotations

import argparse
import os
import sys

from derm_ml import DermError
from derm_ml.addresses import is_loopback
from derm_ml.bundles.providers import chosen_provider
from derm_ml.entrance import enter
from derm_ml.registry import all_tasks
from serving.launch import (
    FOLLOW,
    SHADOW,
    CannotServe,
    models_kept,
    own_folder,
    refuse_used_port,
    serve_command,
    serve_environment,
)  # fmt: skip
from serving.logs import FORMAT
from serving.recorder import days_kept
from serving.released import NotReleased, bento_folder, in_store, read_release
from serving.tokens import FILE, TOKEN, Tokens


def main() -> None:
    given = _arguments()
    try:
        enter()
        tag = _checked_release(given.task, given.shadow) if given.task else ""
        if not given.task:
            _refuse_for_suite(given.shadow)
        if not Tokens.from_environment() and not is_loopback(given.host):
            raise CannotServe(
                f"refusing to listen on {given.host} without a token: set {TOKEN} or {FILE}, or bind to 127.0.0.1"
            )
        chosen_provider()
        days_kept()
        refuse_used_port(given.host, given.port)
    except DermError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    print(f"serving {tag or _released()} on http://{given.host}:{given.port} (Ctrl-C ends it)", flush=True)
    run = own_folder(given.task or "suite", given.port)
    environment = serve_environment(run) | {FOLLOW: "1"}
    environment.setdefault(FORMAT, "text" if sys.stdout.isatty() else "json")
    if given.shadow:
        environment[SHADOW] = given.shadow
    command = serve_command(tag, given.host, given.port)
    os.chdir(run)  # BentoML looks for modules where it is started first: not where others write
    os.execve(command[0], command, environment)  # signals then reach BentoML itself, which drains and ends


def _checked_release(task: str, shadow: str) -> str:
    """The tag of the released Bento. Raises `NotReleased` also where it, or the challenger, is not in the store."""
    tag = read_release(task)
    for needed in filter(None, (tag, shadow)):
        if not in_store(needed):
            raise NotReleased(f"{needed} is not in the store ({bento_folder(needed)}); release a Bento that is there")
    return tag


def _refuse_for_suite(shadow: str) -> None:
    """Raises `CannotServe` for settings of one task, or a number of models that is none."""
    models_kept()
    if shadow or os.environ.get(SHADOW):
        raise CannotServe("a challenger is asked beside one task; name the task too: python -m serving TASK --shadow …")


def _released() -> str:
    """What a suite begins with, in words: a task that is not released, or not well, does not stop the others."""
    found = []
    for task in all_tasks():
        try:
            found.append(read_release(task))
        except NotReleased as error:
            print(f"not served: {error}", file=sys.stderr)
    return ", ".join(found) or "nothing yet"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m serving", description="Serve the released Bento of a task, or of all."
    )
    names = tuple(all_tasks())
    parser.add_argument(
        "task", nargs="?", choices=names, metavar="task", help=f"{', '.join(names)}; all of them if none is named"
    )
    parser.add_argument("--host", default="127.0.0.1", help="IP address to listen on; all but loopback need a token")
    parser.add_argument("--port", type=_port, default=3000, help="1 to 65535 (default 3000)")
    parser.add_argument("--shadow", default="", metavar="BENTO", help="tag of a challenger that is asked too, unseen")
    return parser.parse_args()


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text[:6]) <= 65_535:
        raise argparse.ArgumentTypeError(f"'{text}' is no port; ports are whole numbers from 1 to 65535")
    return int(text)


if __name__ == "__main__":
    main()
