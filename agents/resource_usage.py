"""What training with RLlib takes: processor time and memory of all its processes."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any


def spent(algorithm: Any) -> dict[str, float | None]:
    """Seconds since some instant, CPU seconds and MiB in use, those of all processes of an RLlib algorithm together."""
    own = _process()
    runners = algorithm.env_runner_group.foreach_env_runner(lambda runner: _process(), local_env_runner=False)
    cpu, memory = zip(own, *runners, strict=True)
    known = [each for each in memory if each is not None]
    return {"seconds": time.monotonic(), "cpu_seconds": sum(cpu), "memory_mib": sum(known) if len(known) == len(memory) else None}


def _process() -> tuple[float, float | None]:
    """CPU seconds and MiB (on Linux) of this process."""
    memory = None
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        memory = pages * 4096 / 2**20
    return time.process_time(), memory
