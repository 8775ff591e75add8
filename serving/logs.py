"""The server's log as JSON, one object a line, each with the id of the request it is about.

DERM_LOG=json sets it (`python -m serving` does where nobody watches a terminal); otherwise lines stay as BentoML
writes them. Nothing in here adds what a client sent: no header but the trace id, no file name, no image.
"""

from __future__ import annotations

import json
import logging
import os
from datetime import UTC, datetime

from serving.request import CURRENT

FORMAT = "DERM_LOG"


class JsonLines(logging.Formatter):
    """time, level, logger, message; of a request also request_id, and caller and refused where there are any."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if (request := CURRENT.get()) is not None:
            line["request_id"] = request.id
            line |= {name: value for name, value in (("caller", request.caller), ("refused", request.reason)) if value}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def install() -> None:
    """Give every handler of the server's loggers this format, if DERM_LOG asks for it."""
    if os.environ.get(FORMAT, "").strip().lower() != "json":
        return
    for name in ("", "bentoml", "uvicorn.error", "circus"):
        for handler in logging.getLogger(name).handlers:
            handler.setFormatter(JsonLines())
