"""Serve the released Bento of a task, on this machine only unless told otherwise.

python -m serving lesion_classification
DERM_TOKEN=… python -m serving lesion_classification --host 0.0.0.0 --port 8080
"""

from __future__ import annotations

import argparse
import os
import sys

from derm_ml.files import UmaskError, private_by_default
from serving.launch import serve_command, serve_environment
from serving.released import NotReleased, bento_home, read_release


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m serving", description="Serve the released Bento of a task.")
    parser.add_argument("task", help="e.g. lesion_classification")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; all but loopback need DERM_TOKEN")
    parser.add_argument("--port", type=int, default=3000)
    given = parser.parse_args()
    try:
        private_by_default()
        tag = read_release(given.task)
    except (NotReleased, UmaskError) as error:
        sys.exit(str(error))
    print(f"serving {tag} on http://{given.host}:{given.port} (Ctrl-C ends it)", flush=True)
    environment = serve_environment(bento_home() / "servers" / f"{given.task}-{given.port}")
    command = serve_command(tag, given.host, given.port)
    os.execve(command[0], command, environment)  # signals then reach BentoML itself, which drains and ends


if __name__ == "__main__":
    main()
