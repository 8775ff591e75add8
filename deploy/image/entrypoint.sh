#!/bin/sh
# Serves the Bento of this image. Only /tmp is written to, so the file system may be read-only.
set -eu
cd /tmp
exec python -m serving "$(cat "$(dirname "$0")/task")" --host "$DERM_HOST" --port "$DERM_PORT" "$@"
