"""Helper processes that do not outlive their parent, however it ends."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from multiprocessing.connection import wait


def follow_parent(with_group: bool = False) -> None:
    """Initialises a process of multiprocessing: it leaves Ctrl-C to its parent and ends when its parent does. with_group: so does
    the group of processes that it leads, where the system knows groups."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # of a forked process: its parent's would be its own
    threading.Thread(target=_follow, args=(with_group,), daemon=True).start()


def _follow(with_group: bool) -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        if with_group and hasattr(os, "killpg"):
            os.killpg(0, signal.SIGKILL)
        os._exit(1)


def follow_input() -> None:
    """The same in a process of subprocess, whose standard input is a pipe from its parent."""

    def follow() -> None:
        while os.read(0, 4096):
            pass
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
