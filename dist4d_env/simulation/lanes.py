"""Traffic that leaves its logged paths: drivers follow lanes, change them, merge, yield and stop by rules."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.scenes.scene import Scene
from dist4d_env.simulation import lane_kernels as kernels
from dist4d_env.simulation.agents import AgentArrays
from dist4d_env.simulation.kernels import contiguous
from dist4d_env.simulation.lane_kernels import PARAMETERS, STATE, Tables
from dist4d_env.simulation.lane_tables import NO_SCENES, joined, tables_of
from dist4d_env.simulation.paths import SPACING
from dist4d_env.simulation.traffic import TrafficState


@dataclass(frozen=True)
class LaneParameters:
    """headway: s; gap: m at rest; acceleration, braking: comfortable m/s^2; hard_braking: m/s^2, the hardest; haste: the speed
    wanted over the fastest logged, cruise: m/s, the least that is wanted; sideways: m/s^2 in bends.

    politeness, threshold, bias, safe_braking: of changes of lanes, the weight of the follower's loss, the gain in m/s^2 that is
    worth a change, how much dearer it is to leave the own lane than to come back, and how hard a new follower may have to brake;
    change_time: s that a change takes. margin: s between two whose ways cross; turning: s for which one who turns off waits.
    """

    headway: float = 0.73
    gap: float = 3.38
    acceleration: float = 1.21
    braking: float = 1.43
    hard_braking: float = 7.0
    haste: float = 1.0
    cruise: float = 5.0
    sideways: float = 1.54
    politeness: float = 0.3
    threshold: float = 0.3
    bias: float = 0.2
    safe_braking: float = 3.0
    change_time: float = 4.0
    margin: float = 1.69
    turning: float = 1.0


class LaneTraffic:
    """Vehicles drive by rules along the lanes; of the log they take where they are at the start, their route and the speed they
    like. People on foot and on bicycles keep to their logs, what hardly moved stays, what a scenario has edited does as edited.

    A driver's way is its logged path and, beyond it, the lane graph straight on. Along it drives the intelligent driver model
    (Treiber et al. 2000) behind whatever is in the corridor of the vehicle's width. It stops at red lights, before crossings
    with people on them, and, in scenes without traffic lights, where the log waited with a free road, until the log went on.
    Where two ways cross, who comes first goes first, who turns off later, and everybody lets people on foot and on bicycles
    pass; where they merge, the farther one follows the nearer. It changes to a lane beside its own by MOBIL (Kesting et al.
    2007), a smooth step sideways, and is back before that lane ends. A driver goes on beyond its log to the end of its way, up
    to 100 m later where the map does, and is gone then; one whose log begins while its place is taken enters when that is free.

    Drivers never touch each other or what stands, unless the log does: one that would halts on the spot. Without lanes on the
    map all keep to their logged paths, on which the rules hold.
    """

    def __init__(self, vehicle: VehicleParameters | None = None, parameters: LaneParameters | None = None) -> None:
        vehicle, self.parameters = vehicle or VehicleParameters(), parameters or LaneParameters()
        self.vehicle = vehicle
        self._added: list[Tables] = []  # scenes that are not in the joined tables yet
        self._joined = NO_SCENES._replace(parameters=_record_of(vehicle, self.parameters))

    def add(self, scene: Scene) -> int:
        """One more scene; its number."""
        self._added.append(tables_of(scene, self.parameters.sideways, self.parameters.braking))
        return len(self._joined.scenes) + len(self._added) - 1

    def tuned(self, parameters: LaneParameters) -> LaneTraffic:
        """The same scenes under other parameters. ValueError where they differ in what the scenes' tables are made with."""
        if (parameters.sideways, parameters.braking) != (self.parameters.sideways, self.parameters.braking):
            raise ValueError("sideways and braking are in the tables of scenes: add the scenes to another LaneTraffic")
        other = LaneTraffic(self.vehicle, parameters)
        other._joined = self._tables._replace(parameters=other._joined.parameters)
        return other

    def start(self, scene: np.ndarray, row: np.ndarray, tracks: int) -> tuple[AgentArrays, TrafficState]:
        """As logged: the agents (B, tracks) and, per track, what ``lane_kernels.STATE`` names."""
        values, valid, state = kernels.start(self._tables, contiguous(scene), contiguous(row), tracks)
        return AgentArrays(values, valid), dict(zip(STATE, state, strict=True))

    def step(
        self, scene: np.ndarray, row: np.ndarray, ego: np.ndarray, agents: AgentArrays, state: TrafficState
    ) -> tuple[AgentArrays, TrafficState]:
        """One tick later: from ``row`` to ``row + 1`` with the egos (B, 7) where they were at ``row``."""
        now = contiguous(scene), contiguous(row), contiguous(ego), contiguous(agents.values), contiguous(agents.valid)
        values, valid, after = kernels.step(self._tables, *now, np.stack([state[name] for name in STATE]))
        return AgentArrays(values, valid), dict(zip(STATE, after, strict=True))

    def anticipate(
        self, scene: np.ndarray, row: np.ndarray, agents: AgentArrays, state: TrafficState, rows: np.ndarray
    ) -> AgentArrays:
        """Drivers at their present speed along their way, the others with the log."""
        known = contiguous(scene), contiguous(row), np.stack([state[name] for name in STATE]), contiguous(rows)
        return AgentArrays(*kernels.anticipate(self._tables, *known))

    @property
    def _tables(self) -> Tables:
        """Those of all scenes."""
        if self._added:
            self._joined, self._added = joined(self._joined, self._added), []
        return self._joined


def _record_of(vehicle: VehicleParameters, parameters: LaneParameters) -> np.ndarray:
    """What the kernels know of both, (1,)."""
    ego = {"ego_center": vehicle.rear_axle_to_center, "ego_length": vehicle.length, "ego_width": vehicle.width}
    known = {**asdict(parameters), **ego, "spacing": SPACING}
    values = np.zeros(1, PARAMETERS)
    for name in PARAMETERS.names or ():
        values[name] = known[name]
    return values
