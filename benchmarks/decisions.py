"""Benchmarks of single decisions: planners drive scenarios of a suite while others of their kind look at other pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.common import FinishedUnits
from benchmarks.fidelity import in_turn
from dist4d_env.errors import ConfigError
from dist4d_env.evaluation.campaign import Campaign, look_at_planners
from dist4d_env.evaluation.drive import EnvSettings
from dist4d_env.evaluation.episode_log import EpisodeLog
from dist4d_env.evaluation.executors import executor
from dist4d_env.evaluation.fingerprint import package_fingerprint
from dist4d_env.evaluation.second_opinion import SecondOpinions
from dist4d_env.progress import Progress
from dist4d_env.scenes.scenario import Scenario
from dist4d_env.scenes.suites import read_suite


@dataclass(frozen=True)
class DecisionOptions:
    """What is driven, and by whom."""

    planner: tuple[str, ...] = ("end_to_end", "end_to_end_front", "measuring")
    """Planners that look at pictures."""
    scenarios: int = 20
    """The first so many of the suite, families in turn."""
    suite: str = "town_test"
    """Suite of scenarios in the town: a name or a YAML file."""
    size: str | None = None
    """Height x width of the images; else the worlds' own."""
    weights: str = "tiny"
    """Of the world dist4d: a shipped preset or a folder."""
    workers: int = 2
    """Processes, one thread each; 0 drives in this one."""
    out: Path | None = None
    """Result file (JSON); a stopped run goes on where it was."""

    def __post_init__(self) -> None:
        if self.scenarios < 1 or self.workers < 0:
            raise ConfigError(f"--scenarios {self.scenarios} must be at least 1, --workers {self.workers} at least 0")
        if not self.planner or len(set(self.planner)) < len(self.planner):
            raise ConfigError("--planner: name at least one, and each once")


@dataclass(frozen=True)
class Drive:
    """What a process drives: one episode of one planner. weights: of the world dist4d; fingerprint: of the planner."""

    planner: str
    scenario: Scenario
    settings: EnvSettings
    weights: str
    fingerprint: str

    @property
    def name(self) -> str:
        return f"{self.planner} {self.fingerprint} {self.scenario.name}"

    def check(self, log: EpisodeLog, opinions: SecondOpinions) -> None:
        """Raises ConfigError where a planner has failed: there is nothing to compare then."""
        if log.error is not None or opinions.failed:
            said = log.error or f"on {', '.join(sorted(opinions.failed))}"
            raise ConfigError(
                f"{self.planner} failed in {self.scenario.name} ({said}): leave it out, or try it with `evaluate` first"
            )


def drive_all(
    options: DecisionOptions, world: str, driven: Callable[[Drive], tuple[str, Any]]
) -> tuple[list[Drive], FinishedUnits]:
    """Every planner drives every scenario in a world; what ``driven`` finds is kept as it comes, by the drive's name."""
    suite = read_suite(options.suite)
    chosen = in_turn(suite.scenarios)[: options.scenarios]
    only = tuple(scenario.name for scenario in chosen)
    campaign = Campaign(options.planner, suite, only=only, world=world, weights=options.weights, size=options.size)
    settings = campaign.env_settings(campaign.open_data())
    made = look_at_planners(campaign)
    drives = [
        Drive(name, scenario, settings, options.weights, made[name].fingerprint)
        for scenario in chosen
        for name in options.planner
    ]
    what = {name: getattr(options, name) for name in ("suite", "size", "weights")}
    finished = FinishedUnits(options.out, {**what, "data": settings.dataroot, "code": package_fingerprint()})
    due = [drive for drive in drives if drive.name not in finished.done]
    with Progress("driving", "episode", len(drives), len(drives) - len(due)) as progress:
        for name, found in executor(options.workers)(driven, due):
            finished.add(name, found)
            progress.update()
    return drives, finished
