#!/bin/sh
# Serves the Bento of this image, or all where it names no task. Only /tmp, or TMPDIR, is written to.
set -eu
cd "${TMPDIR:-/tmp}"
task=$(cat "$(dirname "$0")/task")
exec python -m serving ${task:+"$task"} --host "$DERM_HOST" --port "$DERM_PORT" "$@"
