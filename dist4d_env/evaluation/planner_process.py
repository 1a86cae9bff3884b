"""Planners in processes of their own: one that hangs, exits, crashes or is killed costs its episode and nothing else."""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from multiprocessing.util import Finalize
from pathlib import Path
from time import monotonic
from typing import Any

from dist4d_env.errors import ConfigError, DiST4DError
from dist4d_env.evaluation.executors import check_stop
from dist4d_env.evaluation.fingerprint import OpenedFiles, planner_fingerprint
from dist4d_env.evaluation.planners import make_planner
from dist4d_env.planners.contract import (
    PLAN_LIMIT,
    RESET_LIMIT,
    Imagination,
    ImaginedInstant,
    Plan,
    Planner,
    PlannerContext,
    PlannerFailure,
    PlannerInput,
    PlannerNeeds,
    failure_text,
    finite_numbers,
    guarded,
)
from dist4d_env.processes import follow_parent

_PATIENCE = 0.2  # s between looks at whether the run is being stopped
_GRACE = 10.0  # s past its limit after which a planner's process ends itself, should nobody be left to do it


@dataclass(frozen=True)
class Made:
    """What is known of a planner once it is made. fingerprint: as ``planner_fingerprint``."""

    requires: PlannerNeeds
    fingerprint: str


class PlannerProcess:
    """A ``Planner`` by name that lives in a process of its own, begun when it is first needed.

    ``reset`` and ``plan`` raise PlannerFailure for whatever the planner does wrong; a process that takes longer than its limit
    (s; making the planner counts as a reset) is killed, with whatever it has begun itself, and the next reset begins another.
    needs: the planner's, where they are known.
    """

    def __init__(
        self,
        name: str,
        plan_limit: float = PLAN_LIMIT,
        reset_limit: float = RESET_LIMIT,
        needs: PlannerNeeds | None = None,
    ) -> None:
        self._needs = needs
        self.name, self._plan_limit, self._reset_limit = name, plan_limit, reset_limit
        self._pipe: Connection | None = None
        self._made: Made | None = None
        self._imagination: Imagination | None = None

    @property
    def requires(self) -> PlannerNeeds:
        """The planner's needs. Raises ConfigError where it cannot be made."""
        return self._needs or self.made().requires

    def begin(self) -> None:
        """Begins the process, which makes the planner, and does not wait for it."""
        if self._pipe is not None:
            return
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self.name, self._plan_limit, self._reset_limit))
        self._end = Finalize(self, _kill, (self._process,), exitpriority=10)  # with this object, or before the interpreter ends
        self._began, self._known = monotonic(), False
        self._pipe = ours  # from here on ``close`` ends what there is, should a signal interrupt the start
        with _without_interrupts():
            self._process.start()
        theirs.close()

    def made(self) -> Made:
        """Waits until the planner is made. Raises ConfigError where it cannot be."""
        try:
            self._begun()
        except PlannerFailure as failure:
            raise ConfigError(str(failure)) from None
        assert self._made is not None
        return self._made

    def reset(self, context: PlannerContext, seed: int) -> None:
        """Begins an episode."""
        self._imagination = context.imagination
        self._begun()
        asked = replace(context, imagination=None), context.imagination is not None, seed
        self._ask("reset", asked, self._reset_limit)

    def plan(self, observation: PlannerInput) -> Any:
        """A ``Plan``, or an action as an array."""
        return self._ask("plan", (observation,), self._plan_limit)

    def close(self) -> None:
        """Ends the process."""
        if self._pipe is not None:
            self._end()
            self._pipe.close()
            self._pipe = None

    def _begun(self) -> None:
        self.begin()
        if not self._known:
            try:
                self._made = self._answer(self._began, self._reset_limit)
            except PlannerFailure as failure:
                self.close()
                text = str(failure)
                raise PlannerFailure(text if self.name in text else f"planner {self.name!r} cannot be made: {text}") from None
            self._known = True

    def _ask(self, what: str, values: tuple[Any, ...], limit: float) -> Any:
        if self._pipe is None:
            raise PlannerFailure("its process has ended")
        began = monotonic()
        with suppress(OSError):  # it is gone: the answer says how
            self._pipe.send((what, values))
        return self._answer(began, limit)

    def _answer(self, began: float, limit: float) -> Any:
        """What the process answers to the last message; meanwhile its questions to the imagination are answered."""
        assert self._pipe is not None
        until = began + limit
        try:
            while True:
                while not self._pipe.poll(max(0.0, min(_PATIENCE, until - monotonic()))):
                    check_stop()
                    if monotonic() >= until:
                        raise TimeoutError
                what, value = self._pipe.recv()
                if what != "imagine":
                    break
                self._pipe.send(self._imagined(*value))
        except TimeoutError:
            self.close()
            raise PlannerFailure(f"late: no answer within {limit:g} s, its process was stopped") from None
        except (EOFError, OSError):
            self.close()
            raise PlannerFailure(_ending(self._process.exitcode)) from None
        except BaseException:
            self.close()  # in the middle of an answer
            raise
        if what == "failed":
            raise PlannerFailure(value)
        return value

    def _imagined(self, plans: Sequence[Plan], times: Sequence[float]) -> tuple[str, Any]:
        assert self._imagination is not None
        try:
            return "done", self._imagination.try_plans(plans, times)
        except Exception as error:
            return "failed", failure_text(error)


def _ending(code: int | None) -> str:
    if code is not None and code < 0:
        known = -code in {one.value for one in signal.Signals}  # of real-time signals only the first and the last are
        name = signal.Signals(-code).name if known else f"signal {-code}"
        why = ", as the system does when memory runs out" if -code == signal.SIGKILL else ""
        return f"its process was ended by {name}{why}"
    return f"its process exited with status {code}"


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """A process that begins meanwhile is never interrupted from the keyboard; this one as soon as it is over."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _kill(process: Any) -> None:
    """Kills a process and all that it has begun, as far as the system knows groups of processes."""
    if process.pid is None:
        return
    with suppress(AttributeError, ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.join()


class _Asking:
    """``Imagination`` of a planner in its process: asks the process that holds the environment."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def try_plans(self, plans: Sequence[Plan], times: Sequence[float]) -> list[tuple[ImaginedInstant, ...]]:
        """As ``Imagination``. Raises ConfigError for what cannot be imagined."""
        self._pipe.send(("imagine", ([_plain(plan) for plan in plans], [float(time) for time in times])))
        what, value = self._pipe.recv()
        if what == "failed":
            raise ConfigError(value)
        found: list[tuple[ImaginedInstant, ...]] = value
        return found


def _serve(pipe: Connection, name: str, plan_limit: float, reset_limit: float) -> None:
    """The process: makes the planner, then answers one message after the other until nobody is there to ask."""
    if hasattr(os, "setsid"):
        os.setsid()
    follow_parent(with_group=True)
    with suppress(OSError):  # where memory runs out, this process goes before the one that holds the environment
        Path("/proc/self/oom_score_adj").write_text("1000")
    opened, nowhere = OpenedFiles(), open(os.devnull, "w")
    planner: Planner | None = None

    def make() -> Made:
        nonlocal planner
        planner = make_planner(name)
        return Made(planner.requires, planner_fingerprint(planner, opened.stop()))

    def reset(context: PlannerContext, imagines: bool, seed: int) -> None:
        nonlocal planner
        planner = planner or make_planner(name)
        guarded(planner.reset, replace(context, imagination=_Asking(pipe) if imagines else None), seed)

    def plan(observation: PlannerInput) -> Any:
        assert planner is not None
        return _plain(guarded(planner.plan, observation))

    calls: dict[str, tuple[Callable[..., Any], float]] = {
        "make": (make, reset_limit),
        "reset": (reset, reset_limit),
        "plan": (plan, plan_limit),
    }
    what, values = "make", tuple[Any, ...]()
    while True:
        call, limit = calls[what]
        if limit + _GRACE < threading.TIMEOUT_MAX:  # ends this process even where the planner lets no other thread run
            faulthandler.dump_traceback_later(limit + _GRACE, exit=True, file=nowhere)
        try:
            answer = "done", call(*values)
        except BaseException as error:
            plain = isinstance(error, PlannerFailure) or (what == "make" and isinstance(error, DiST4DError))
            answer, planner = ("failed", str(error) if plain else failure_text(error)), None  # the next episode has a new one
        faulthandler.cancel_dump_traceback_later()
        try:
            pipe.send(answer)
            what, values = pipe.recv()
        except (EOFError, OSError):
            return


def _plain(answer: Any) -> Any:
    """A planner's answer as values that need none of its own classes."""
    if not isinstance(answer, Plan):
        return finite_numbers(answer, "an answer that is", "neither a Plan nor an array of numbers")
    dt = finite_numbers(answer.dt, "a plan whose dt is", "no number")
    return Plan(finite_numbers(answer.trajectory, "a plan that is"), dt.tolist())
