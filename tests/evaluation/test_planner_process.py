"""Planners in processes of their own: whatever one does costs its episode, with a cause, and nothing else."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dist4d_env.errors import ConfigError
from dist4d_env.evaluation import executors
from dist4d_env.evaluation.episode_log import PLANNER_ERROR
from dist4d_env.evaluation.planner_process import PlannerProcess
from dist4d_env.evaluation.runner import RunOptions, run_episode
from dist4d_env.planners.contract import Plan, PlannerFailure, PlannerNeeds

PLACE, ELSEWHERE = RunOptions("town-val-0000", 0.0), RunOptions("town-val-0001", 0.0)


class Straight:
    """Goes on at 6 m/s; in the first scene it does worse at the second decision."""

    requires = PlannerNeeds()

    def reset(self, context, seed):
        self.scene, self.decisions = context.scene.name, 0

    def plan(self, observation):
        self.decisions += 1
        if self.decisions == 2 and self.scene == "town-val-0000":
            self.fail()
        return Plan(np.column_stack([3.0 * np.arange(1, 9), np.zeros(8), np.zeros(8)]))

    def fail(self):
        pass


class Raises(Straight):
    def fail(self):
        raise RuntimeError("no idea")


class Hangs(Straight):
    def fail(self):
        time.sleep(600)


class EndsByRealTimeSignal(Straight):
    """Of those in the middle Python knows no names."""

    def fail(self):
        os.kill(os.getpid(), signal.SIGRTMIN + 6)


class HangsInC(Straight):
    """No other thread of its Python runs meanwhile."""

    def fail(self):
        ctypes.PyDLL(None).sleep(600)


class Leaves(Straight):
    def fail(self):
        sys.exit("good bye")


class Exits(Straight):
    def fail(self):
        os._exit(3)


class Crashes(Straight):
    def fail(self):
        ctypes.string_at(0)


class RunsOutOfMemory(Straight):
    """As the system ends it."""

    def fail(self):
        os.kill(os.getpid(), signal.SIGKILL)


class TooPrecise(Straight):
    """Finite only in numbers longer than anybody else's."""

    def plan(self, observation):
        plan = super().plan(observation)
        factor = np.longdouble("1e4000") if self.decisions == 2 and self.scene == "town-val-0000" else np.longdouble(1)
        return Plan(plan.trajectory * factor, np.longdouble(0.5))


class NoNumber(Straight):
    def plan(self, observation):
        return np.full(2, np.nan)


class NoAnswer(Straight):
    def plan(self, observation):
        pass


class SaysALot(Straight):
    def fail(self):
        raise PlannerFailure("no idea\n" * 10**5)


class NeverResets(Straight):
    def reset(self, context, seed):
        time.sleep(600)


class Unmakeable(Straight):
    def __init__(self):
        raise FileNotFoundError("weights.pt\nis not there")


class NeverMade(Straight):
    def __init__(self):
        time.sleep(600)


class ExitsWhenMade(Straight):
    def __init__(self):
        os._exit(5)


class WithoutNeeds(Straight):
    requires = None


class WithHelper(Straight):
    """Begins another process that would outlive it."""

    def fail(self):
        helper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        Path(os.environ["HELPER"]).write_text(str(helper.pid))
        time.sleep(600)


HERE = Path(__file__).name


def line_of(method: Any) -> int:
    """The first line of a method's body."""
    return method.__code__.co_firstlineno + 1


def named(kind: type) -> str:
    return f"{__name__}:{kind.__name__}"


@pytest.mark.parametrize(
    "kind, says, limit",
    [
        (Raises, f"at 0.5 s: RuntimeError: no idea, at {HERE}:{line_of(Raises.fail)} in fail", 60.0),
        (Leaves, f"at 0.5 s: SystemExit: good bye, at {HERE}:{line_of(Leaves.fail)} in fail", 60.0),
        (Exits, "at 0.5 s: its process exited with status 3", 60.0),
        (Crashes, "at 0.5 s: its process was ended by SIGSEGV", 60.0),
        (EndsByRealTimeSignal, f"at 0.5 s: its process was ended by signal {signal.SIGRTMIN + 6}", 60.0),
        (RunsOutOfMemory, "at 0.5 s: its process was ended by SIGKILL, as the system does when memory runs out", 60.0),
        (Hangs, "at 0.5 s: late: no answer within 2 s, its process was stopped", 2.0),
        (HangsInC, "at 0.5 s: late: no answer within 2 s, its process was stopped", 2.0),
    ],
)
def test_a_failure_costs_one_episode(env, kind, says, limit):
    planner = PlannerProcess(named(kind), plan_limit=limit)
    log = run_episode(env, planner, 0, PLACE)
    assert (log.outcome, log.error) == (PLANNER_ERROR, says)
    assert len(log.steps) == 2 and len(log.trace.time) == 6, "what was driven until then is kept"
    again = run_episode(env, planner, 0, ELSEWHERE)
    assert again.error is None and len(again.steps) > 2, "the next episode has a new planner"
    planner.close()


def test_a_run_that_is_stopped_is_not_the_failure_of_a_slow_planner(env, monkeypatch):
    """Stored as one, the episode would never be driven again and count as 0."""
    planner, stop = PlannerProcess(named(Hangs)), threading.Event()
    monkeypatch.setattr(executors, "_stop", stop)

    def at_the_second_decision(driving, info):
        if info["time"] > 0.4:
            stop.set()

    with pytest.raises(executors.Stopped):
        run_episode(env, planner, 0, PLACE, at_the_second_decision)
    planner.close()


@pytest.mark.skipif(np.finfo(np.longdouble).max == np.finfo(float).max, reason="no longer numbers here")
def test_numbers_that_nobody_else_can_hold_are_not_finite(env):
    for planner in (TooPrecise(), PlannerProcess(named(TooPrecise))):
        log = run_episode(env, planner, 0, PLACE)
        assert log.outcome == PLANNER_ERROR and "at 0.5 s: a plan that is not finite: array([[" in log.error
        assert run_episode(env, planner, 0, ELSEWHERE).error is None


def test_bare_answers_are_told_apart(env):
    """In its process, too: what is no array, and what is one of other numbers."""
    for kind, says in ((NoNumber, "an answer that is not finite: array([nan"), (NoAnswer, "neither a Plan nor an array of")):
        assert says in str(run_episode(env, PlannerProcess(named(kind)), 0, PLACE).error)


def test_a_long_story_is_cut_short(env):
    for planner in (SaysALot(), PlannerProcess(named(SaysALot))):
        log = run_episode(env, planner, 0, PLACE)
        assert log.outcome == PLANNER_ERROR and log.error.startswith("at 0.5 s: no idea no idea") and len(log.error) <= 400


def test_a_reset_has_a_limit(env):
    planner = PlannerProcess(named(NeverResets), reset_limit=300.0)
    planner.made()  # which takes its time on a busy machine
    planner._reset_limit = 6.0
    log = run_episode(env, planner, 0, PLACE)
    assert (log.outcome, log.error) == (PLANNER_ERROR, "reset: late: no answer within 6 s, its process was stopped")


@pytest.mark.parametrize(
    "kind, says",
    [
        (
            Unmakeable,
            f"cannot be made (FileNotFoundError: weights.pt is not there, at {HERE}:{line_of(Unmakeable.__init__)} in __init__)",
        ),
        (NeverMade, "cannot be made: late: no answer within 6 s, its process was stopped"),
        (ExitsWhenMade, "cannot be made: its process exited with status 5"),
        (WithoutNeeds, "requires must be a PlannerNeeds, not None"),
    ],
)
def test_what_cannot_be_made_is_one_line(env, kind, says):
    limit = 6.0 if kind is NeverMade else 300.0  # a busy machine makes planners slowly
    planner = PlannerProcess(named(kind), reset_limit=limit)
    with pytest.raises(ConfigError) as told:
        planner.made()
    assert str(told.value).startswith(f"planner '{named(kind)}'") and says in str(told.value) and "\n" not in str(told.value)
    known = PlannerProcess(named(kind), reset_limit=limit, needs=PlannerNeeds())
    log = run_episode(env, known, 0, PLACE)
    assert log.outcome == PLANNER_ERROR and says in str(log.error), "in mid-campaign it costs its episode"


def test_a_planner_plans_the_same_in_its_process(env, log):
    planner = PlannerProcess("lane", plan_limit=600.0)
    assert planner.requires.privileged
    again = run_episode(env, planner, 0, PLACE)
    assert np.array_equal(again.trace.ego, log.trace.ego) and np.array_equal(again.plans.poses, log.plans.poses)


def test_what_a_planner_began_ends_with_it(env, tmp_path, monkeypatch):
    monkeypatch.setenv("HELPER", str(tmp_path / "helper"))
    log = run_episode(env, PlannerProcess(named(WithHelper), plan_limit=4.0), 0, PLACE)
    assert "late" in str(log.error)
    helper = int((tmp_path / "helper").read_text())
    for _ in range(3000):
        state = Path(f"/proc/{helper}/stat")
        if not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.01)
    pytest.fail("the helper goes on")


def test_a_process_ends_with_who_asks():
    """Neither a normal end nor SIGKILL of this side leaves the planner's process behind, though it may be busy."""
    script = (
        "import os, sys, signal\n"
        "from dist4d_env.evaluation.planner_process import PlannerProcess\n"
        "if __name__ == '__main__':\n"
        "    planner = PlannerProcess('lane'); planner.made(); print(planner._process.pid, flush=True)\n"
        "    if sys.argv[1] == 'killed': os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    for how in ("killed", "ended"):
        ran = subprocess.run([sys.executable, "-c", script, how], capture_output=True, text=True, cwd=Path(__file__).parents[2])
        child = int(ran.stdout)
        for _ in range(3000):
            if not Path(f"/proc/{child}").exists():
                break
            time.sleep(0.01)
        else:
            pytest.fail(f"{how}: the planner's process goes on")


def test_an_imagining_planner_asks_from_its_process(town_dataroot):
    """The same drive as in this process, and what it asks wrongly is its own failure."""
    import gymnasium as gym

    from dist4d_env.planners.imagine import Candidate, ImagineConfig, ImaginingPlanner

    made = gym.make(
        "DiST4D-nuScenes-v0", dataroot=str(town_dataroot), scenes="val", world="replay", action="trajectory", horizon=1.0
    )
    light = ImagineConfig(candidates=(Candidate(0.0), Candidate(1.0)))
    here = run_episode(made, ImaginingPlanner(light), 0, RunOptions("town-val-0000", 0.0, plan_limit=600.0))
    planner = PlannerProcess(f"{__name__}:light_imagination", plan_limit=600.0)
    there = run_episode(made, planner, 0, RunOptions("town-val-0000", 0.0, plan_limit=600.0))
    assert here.error is None and np.array_equal(here.trace.ego, there.trace.ego)
    wrong = run_episode(made, PlannerProcess(named(AsksWrongly)), 0, RunOptions("town-val-0000", 0.0))
    assert "ConfigError" in str(wrong.error) and "multiples of 0.1 s" in str(wrong.error)
    made.close()


def light_imagination():
    from dist4d_env.planners.imagine import Candidate, ImagineConfig, ImaginingPlanner

    return ImaginingPlanner(ImagineConfig(candidates=(Candidate(0.0), Candidate(1.0))))


class AsksWrongly(Straight):
    requires = PlannerNeeds(imagination=True)

    def reset(self, context, seed):
        super().reset(context, seed)
        self.imagination = context.imagination

    def fail(self):
        self.imagination.try_plans([Plan(np.zeros((8, 3)))], [0.123])


@pytest.mark.parametrize("begun", [False, True])
def test_a_start_that_a_signal_interrupts_can_be_closed(monkeypatch, begun):
    """Ctrl-C or SIGTERM between the pipe and the end of the start: close ends what there is, and the next start is whole."""
    start = multiprocessing.context.SpawnProcess.start

    def interrupted(process):
        if begun:
            start(process)
        raise KeyboardInterrupt

    planner = PlannerProcess(f"{__name__}:Straight")
    with monkeypatch.context() as patch:
        patch.setattr(multiprocessing.context.SpawnProcess, "start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            planner.begin()
    process = planner._process
    planner.close()
    assert process.pid is None if not begun else process.exitcode == -signal.SIGKILL
    assert planner.requires == PlannerNeeds()
    planner.close()
