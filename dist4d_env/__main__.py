"""Command line, ``dist4d VERB`` or ``python -m dist4d_env VERB``: a typed options dataclass per verb, imported with it."""

from __future__ import annotations

import errno
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

from dist4d_env import json_output
from dist4d_env.errors import ConfigError, DiST4DError
from dist4d_env.verbs import VERBS, module_of, parse


def usage() -> str:
    """The text of ``--help`` without a verb."""
    verbs = "\n".join(f"  {verb:<13}{line}" for verb, (_, line) in VERBS.items())
    more = f"{program()} VERB --help lists a verb's options."
    return f"usage: {program()} VERB [options]\n\nverbs:\n{verbs}\n\n{more}"


def program() -> str:
    """How this was called: by the console script, or as a module."""
    return "dist4d" if Path(sys.argv[0]).stem == "dist4d" else "python -m dist4d_env"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one verb. Returns the exit status: 0 done, 2 bad input, 3 a fault of the machine, such as a full disk or a package
    that is missing, 130 stopped from the keyboard, 143 stopped by SIGTERM; all but 0 with one line on stderr, and with --json
    as ``error`` on stdout."""
    _open_streams()
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    verb = arguments[0] if arguments else "--help"
    if verb not in (*VERBS, "-h", "--help", "--version"):
        print(f"dist4d_env: there is no verb {verb!r}; choose one of {', '.join(VERBS)}", file=sys.stderr)
        return 2
    try:
        if verb not in VERBS:
            print(_about(verb))
            sys.stdout.flush()
            return 0 if arguments else 2
        try:
            options, asked = parse(verb, arguments[1:], program())
        finally:
            sys.stdout.flush()  # of --help
        with json_output.as_json(asked):
            return _run(verb, options)
    except (Exception, KeyboardInterrupt) as error:  # before the verb began
        return _failed(verb, error, None)


def _run(verb: str, options: Any) -> int:
    """Runs a verb with its options; the exit status."""
    try:
        _check_out(getattr(options, "out", None))
        with _stoppable():
            status = int(module_of(verb).run(options))
            sys.stdout.flush()
            return status
    except (Exception, KeyboardInterrupt, Terminated) as error:
        return _failed(verb, error, getattr(options, "out", None))


def _check_out(out: Path | None) -> None:
    """Raises ConfigError for a folder of results that is a file, or is to lie below one."""
    for place in () if out is None else (out, *out.parents):
        if os.path.exists(place) and not os.path.isdir(place):
            raise ConfigError(f"--out {out}: {place} is a file: choose a folder")


def _failed(verb: str, error: BaseException, out: Path | None) -> int:
    """Says what went wrong; the exit status. A mistake of the program is raised again. out: as in ``fault_of``."""
    if isinstance(error, DiST4DError):
        status, words = 2, str(error)
    elif isinstance(error, KeyboardInterrupt):
        status, words = 130, "stopped from the keyboard"
    elif isinstance(error, Terminated):
        status, words = 143, "stopped by SIGTERM"
    elif isinstance(error, ImportError) and not (error.name or "dist4d_env").startswith("dist4d_env"):
        words = (
            f"{error} in {sys.executable}: call the Python that dist4d_env is installed in (.venv/bin/python after `make demo`), "
            f"or install it anew, or what `{program()} doctor` finds missing"
        )
        status = 3
    else:
        status, words = 3, fault_of(error, out) or ""
        if not words:
            json_output.result({"error": f"{type(error).__name__}: {error}", "status": 1})
            raise error
    begin = "\n" if status > 3 else ""  # below what a terminal shows of Ctrl-C
    print(f"{begin}dist4d_env {verb}: {words}", file=sys.stderr)
    json_output.result({"error": words, "status": status})
    return status


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
