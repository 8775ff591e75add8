"""Whether the service of this machine is ready: exit code 0 or 1, for the health check of a container.

python -m serving.health            # asks 127.0.0.1:3000, or the port in DERM_PORT
"""

from __future__ import annotations

import os
import sys
from http.client import HTTPConnection, HTTPException


def main() -> None:
    connection = HTTPConnection("127.0.0.1", int(os.environ.get("DERM_PORT") or 3000), timeout=5)
    try:
        connection.request("GET", "/readyz")
        sys.exit(connection.getresponse().status != 200)
    except (OSError, HTTPException):
        sys.exit(1)


if __name__ == "__main__":
    main()
