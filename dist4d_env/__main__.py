"""Command line, ``dist4d VERB`` or ``python -m dist4d_env VERB``: a typed options dataclass per verb, imported with it."""

from __future__ import annotations

import errno
import importlib
import io
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dist4d_env.errors import DiST4DError

VERBS = {
    "demo": ("dist4d_env.demo", "drive ten seconds through a generated world; writes a video and a report"),
    "play": ("dist4d_env.play.cli", "drive yourself, in a browser on this machine"),
    "town": ("dist4d_env.town.cli", "make the built-in data set: streets, traffic, cameras, LiDAR, in nuScenes format"),
    "prepare": ("dist4d_env.curation.cli", "make metric depth for the images of a nuScenes-format data set"),
    "train": ("dist4d_env.training.cli", "train the RGB-D codec, DiST-T or DiST-S"),
    "adapt": ("dist4d_env.evaluation.adaptation", "fine-tune weights on your own scenes, and keep what is better there"),
    "validate": ("dist4d_env.evaluation.validation", "check a data set; say which weights suit it"),
    "evaluate": ("dist4d_env.evaluation.cli", "drive a planner through episodes, or score stored episodes again"),
    "leaderboard": ("dist4d_env.evaluation.site", "rank the planners of many campaigns on one static page"),
}
"""Verb to (module with ``Options`` and ``run(options) -> int``, one line of help)."""


def usage() -> str:
    """The text of ``--help`` without a verb."""
    verbs = "\n".join(f"  {verb:<13}{line}" for verb, (_, line) in VERBS.items())
    more = f"{program()} VERB --help lists a verb's options."
    return f"usage: {program()} VERB [options]\n\nverbs:\n{verbs}\n\n{more}"


def program() -> str:
    """How this was called: by the console script, or as a module."""
    return "dist4d" if Path(sys.argv[0]).stem == "dist4d" else "python -m dist4d_env"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one verb. Returns the exit status: 0 done, 2 bad input, 3 a fault of the machine, such as a full disk, 130 stopped
    from the keyboard, 143 stopped by SIGTERM; all but 0 with one line on stderr."""
    _open_streams()
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    verb, out = arguments[0] if arguments else "--help", None
    if verb not in (*VERBS, "-h", "--help", "--version"):
        print(f"dist4d_env: there is no verb {verb!r}; choose one of {', '.join(VERBS)}", file=sys.stderr)
        return 2
    try:
        if verb not in VERBS:
            print(_about(verb))
            sys.stdout.flush()
            return 0 if arguments else 2
        import tyro

        module = importlib.import_module(VERBS[verb][0])
        try:
            options = tyro.cli(module.Options, prog=f"{program()} {verb}", args=arguments[1:])
        finally:
            sys.stdout.flush()  # of --help
        out = getattr(options, "out", None)
        with _stoppable():
            status = int(module.run(options))
            sys.stdout.flush()
            return status
    except DiST4DError as error:
        print(f"dist4d_env {verb}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\ndist4d_env {verb}: stopped from the keyboard", file=sys.stderr)
        return 130
    except Terminated:
        print(f"\ndist4d_env {verb}: stopped by SIGTERM", file=sys.stderr)
        return 143
    except Exception as error:
        fault = fault_of(error, out)
        if fault is None:
            raise
        print(f"dist4d_env {verb}: {fault}", file=sys.stderr)
        return 3


def _open_streams() -> None:
    """Standard streams that are closed lead nowhere, and one that cannot write a character writes its number."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:  # of the three numbers the lowest that is free, which another file would get else
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w"))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _about(flag: str) -> str:
    if flag != "--version":
        return usage()
    from dist4d_env import __version__

    return __version__


class Terminated(BaseException):
    """SIGTERM came: whatever is open is closed and helper processes are ended, as for Ctrl-C."""


@contextmanager
def _stoppable() -> Iterator[None]:
    """Raises Terminated for SIGTERM, also where a library makes another error of it or closing what was half open fails."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    came = threading.Event()

    def stop(number: int, frame: Any) -> None:
        came.set()
        raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except Exception as error:
        if came.is_set():
            raise Terminated from error
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
CLOSED = (errno.EROFS, errno.EACCES, errno.EPERM)
AGAIN = "and run the same command again"


def fault_of(error: BaseException, out: Path | None = None) -> str | None:
    """One sentence for what the machine and not the caller is to blame for, or None: libraries may wrap an OSError in others.

    out: the folder that is named where the error names no file.
    """
    from concurrent.futures.process import BrokenProcessPool

    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError | BrokenProcessPool):
        by_number = re.search(r"\(os error (\d+)\)", str(cause))  # what Rust's libraries raise
        cause = OSError(int(by_number[1]), "") if by_number else cause.__cause__ or cause.__context__
    if cause is None:
        return None
    if isinstance(cause, BrokenProcessPool):
        return f"a helper process was killed, perhaps for want of memory: take fewer --workers {AGAIN}"
    place = f" ({str(cause.filename2 or cause.filename or out or 'standard output')[:200]})"
    if cause.errno in FULL or cause.errno is None:  # numpy gives no number where it could not write all it wanted
        remedy = "free some space"
    elif cause.errno in CLOSED:
        remedy = "choose a folder that can be written to"
    else:
        remedy = "see to the file or file system"
    return f"{os.strerror(cause.errno) if cause.errno else cause}{place}: {remedy} {AGAIN}"


if __name__ == "__main__":
    sys.exit(main())
