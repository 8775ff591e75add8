"""The run launcher of dagster.yaml: Dagster's own, which also notices that a run's process is gone.

A code server reports a killed run of its own. Nobody reports the runs of a code server that was killed with them, by a
restart of the machine or for want of memory: the default launcher cannot tell, and they stay "started" and keep the
pool's slot for ever. With this one the daemon's run monitoring marks them failed, and `run_retries` starts them again.
"""

from __future__ import annotations

import json

import dagster as dg
import psutil
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, WorkerStatus
from dagster._core.storage.tags import GRPC_INFO_TAG

_CLOCK_SLACK = 5.0  # seconds between a process's birth and its first event, as two clocks may tell it


class WatchfulRunLauncher(DefaultRunLauncher):
    """Launches runs as the default launcher does; a run is healthy while its process lives on this machine."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """`FAILED` only if the process certainly is no more; a code server elsewhere is not judged."""
        known = self._process_of(run)
        if known is None:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        pid, seen = known
        try:
            process = psutil.Process(pid)
            lives = process.status() != psutil.STATUS_ZOMBIE
            # a number that was given to a later process
            lives = lives and process.create_time() <= seen + _CLOCK_SLACK
        except psutil.NoSuchProcess:
            lives = False
        if lives:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(WorkerStatus.FAILED, f"its process {pid} is gone: killed, or the machine restarted")

    def _process_of(self, run: dg.DagsterRun) -> tuple[int, float] | None:
        """The pid of a run's process on this machine and when it said so, from the run's own events."""
        server = json.loads(run.tags.get(GRPC_INFO_TAG, "{}"))
        if server.get("host") not in ("localhost", "127.0.0.1"):
            return None
        for entry in self._instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT):
            event = entry.dagster_event
            pid = event.engine_event_data.metadata.get("pid") if event else None
            if pid is not None:
                return int(str(pid.value)), entry.timestamp
        return None
