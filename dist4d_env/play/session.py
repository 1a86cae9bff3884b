"""One drive, without any server: an environment, the worlds that show it, and everything that was done, instant by instant."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import gymnasium as gym
import numpy as np
import shapely

import dist4d_env  # noqa: F401 (registers the environment)
from dist4d_env.envs.driving import DiST4DDrivingEnv
from dist4d_env.envs.row import EpisodeView, Snapshot
from dist4d_env.errors import ConfigError, DataError
from dist4d_env.geometry.boxes import Boxes, rectangle_corners
from dist4d_env.geometry.vehicle import VehicleParameters
from dist4d_env.planners.contract import PlannerFailure
from dist4d_env.play.reel import Frame, Reel
from dist4d_env.play.stage import Seen, Stage
from dist4d_env.play.wheel import Decision, Pilot, by_hand, elsewhere
from dist4d_env.play.worlds import TRUTH, Look, Worlds
from dist4d_env.scenes.edit_tracks import INSERTED, EditFrame
from dist4d_env.scenes.edits import Insert
from dist4d_env.scenes.scenario import Scenario
from dist4d_env.scenes.scene import TICK, Scene

TO_THE_END = 1000.0
"""Seconds of a horizon beyond every recording."""
BRANCHES = 8
"""Drives that are kept when one goes back and drives on differently."""
Beside = tuple[float, float, float, float]
"""A place to look from: metres forward, left and up in the ego frame, radians to the left."""
_ASTRAY = 0.5  # m that an inserted object may be from where it was put, where the route bends or ends


@dataclass(frozen=True)
class Settings:
    """What a drive is in. Keywords as the environment's; look: the world that shows it at first."""

    dataroot: str
    version: str
    scenes: tuple[str, ...]
    look: Look
    size: tuple[int, int]
    traffic: str = "idm"
    dataset: str | None = None
    seed: int = 0


@dataclass(frozen=True)
class Shown:
    """What is kept of a picture. look: the world that made it; digest: of its pixels, depth and sources."""

    look: Look
    digest: str
    source: tuple[str, ...]
    deviation_m: float
    trust: float


@dataclass(frozen=True)
class Drawn:
    """A frame, and which world made it."""

    look: Look
    frame: Frame

    @property
    def shown(self) -> Shown:
        """What is kept of it."""
        rgbd, info = self.frame.rgbd, self.frame.info
        code = zlib.crc32(rgbd.depth.tobytes(), zlib.crc32(np.ascontiguousarray(rgbd.rgb).tobytes()))
        digest = f"{zlib.crc32(' '.join(info.source).encode(), code):08x}"
        return Shown(self.look, digest, tuple(info.source), float(info.deviation_m), float(info.trust))


@dataclass(frozen=True)
class Moment:
    """An instant of a drive. decision: what led to it, None at the start; inserted: edits put in at this instant; shown: what
    its first picture was, None where none was asked for while it was the present."""

    snapshot: Snapshot
    seen: Seen
    info: Mapping[str, Any]
    reward: float = 0.0
    decision: Decision | None = None
    inserted: tuple[Insert, ...] = ()
    shown: Shown | None = None

    @property
    def ended_by(self) -> str | None:
        """What ended the episode here."""
        ended: str | None = self.info["ended_by"]
        return ended

    @property
    def digest(self) -> str:
        """Of the ego and all agents."""
        assert self.snapshot.episode is not None
        state = self.snapshot.episode.state
        code = zlib.crc32(state.agents.values.tobytes(), zlib.crc32(state.ego.tobytes()))
        return f"{zlib.crc32(state.agents.valid.tobytes(), code):08x}"


@dataclass(frozen=True)
class Picture:
    """What a world shows of a moment; elsewhere: seen from beside the car."""

    moment: Moment
    tick: int
    drawn: Drawn
    elsewhere: bool = False


@dataclass
class Session:
    """A drive. Its methods may be called from several threads: ``paint`` is slow and holds nothing up.

    path: the moments since the start; cursor: the present one; branches: other paths, the latest last.
    """

    settings: Settings
    worlds: Worlds
    look: Look = field(init=False)
    path: list[Moment] = field(init=False, default_factory=list)
    cursor: int = field(init=False, default=0)
    branches: list[list[Moment]] = field(init=False, default_factory=list)
    pilot: Pilot | None = field(init=False, default=None)
    vehicle: VehicleParameters = field(init=False, default_factory=VehicleParameters)

    def __post_init__(self) -> None:
        """Raises ConfigError, DataError or WeightsError."""
        self.look = self.settings.look
        self._stage = Stage(self.worlds.traits(self.look).needs_images)
        self._envs: dict[str, gym.Env] = {}
        self._at: dict[str, Moment | None] = {}
        self._reels: dict[Look, Reel] = {}
        self._peeks: dict[Look, Reel] = {}
        self._lock, self._painting = threading.RLock(), threading.RLock()
        self._scenario: Scenario | None = None
        self._env("controls")

    # The drive

    def begin(self, scene: str, start: float = 0.0, scenario: Scenario | None = None) -> Moment:
        """A new drive from a scene's start, or in a scenario. Raises ConfigError or DataError, and then nothing has changed."""
        with self._lock:
            scenario = scenario or Scenario(scene, start, horizon=TO_THE_END, traffic=self.settings.traffic)
            [first] = self._driven(scenario, [])
            scenario = self._env("controls").episode.scenario  # its start is on the grid
            self._scenario, self.path, self.cursor, self.branches, self.pilot = scenario, [first], 0, [], None
            self._reels, self._peeks = {}, {}
            return first

    @property
    def now(self) -> Moment:
        """The present moment."""
        return self.path[self.cursor]

    @property
    def scenario(self) -> Scenario:
        """What is played, with what was inserted until now."""
        assert self._scenario is not None
        return replace(self._scenario, edits=(*self._scenario.edits, *self._inserted()))

    @property
    def scene(self) -> Scene:
        """The scene with what was inserted."""
        return self.now.seen.start.scene

    @property
    def driving(self) -> DiST4DDrivingEnv:
        """An environment at the present instant, to read from."""
        with self._lock:
            return self._driving(next((kind for kind, at in self._at.items() if at is self.now), "controls"))

    def view(self) -> EpisodeView:
        """The present instant as values."""
        with self._lock:
            return self.driving.episode

    def tick(self, pedal: float = 0.0, wheel: float = 0.0) -> Moment:
        """One tick of 0.1 s, by hand or by the planner at the wheel; after going back it begins another branch.

        Does nothing once the episode is over. Raises PlannerFailure, and then the hand is back at the wheel.
        """
        picture = self.paint() if self.pilot is not None and self.pilot.needs_pictures else None
        with self._lock:
            if self.now.ended_by is not None:
                return self.now
            if self.pilot is None:
                return self.decide(by_hand(pedal, wheel, self.view().state.ego, self.vehicle))
            try:
                frame = None if picture is None else picture.drawn.frame.rgbd
                return self.decide(self.pilot.decide(self._driving("trajectory"), frame))
            except PlannerFailure:
                self.pilot = None
                raise

    def decide(self, decision: Decision) -> Moment:
        """One tick with a decision that has been made."""
        with self._lock:
            before = self.now
            moment = self._stepped(before, decision)
            self._leave()
            self.path = [*self.path[: self.cursor + 1], moment]
            self.cursor += 1
            return moment

    def go_to(self, tick: int) -> Moment:
        """Back, or forth again, to an instant of the path, clamped to its ends."""
        with self._lock:
            self.cursor = min(max(tick, 0), len(self.path) - 1)
            if self.cursor == len(self.path) - 1:
                self._peeks = {}
            return self.now

    def switch(self, branch: int) -> Moment:
        """To the end of another branch; the present one takes its place. Raises ConfigError."""
        with self._lock:
            if not 0 <= branch < len(self.branches):
                raise ConfigError(f"there is no branch {branch}: there are {len(self.branches)}")
            self.path, self.branches[branch] = self.branches[branch], self.path
            self.cursor, self._peeks, self.pilot = len(self.path) - 1, {}, None
            return self.now

    def hand_over(self, planner: str) -> None:
        """A planner takes the wheel. Raises ConfigError or PlannerFailure."""
        with self._lock:
            self.pilot = Pilot(planner, self._driving("trajectory"))

    def take_back(self) -> None:
        """The hand is back at the wheel."""
        with self._lock:
            self.pilot = None

    def insert(self, category: str, x: float, y: float, heading: float | None = None, speed: float = 0.0) -> Insert:
        """Puts an object at a place on the ground (global, metres), from now on. heading: radians, None along the route; speed:
        m/s, straight on. Raises ConfigError where it does not fit."""
        with self._lock:
            if category not in INSERTED:
                raise ConfigError(f"category {category!r} is unknown: choose one of {', '.join(INSERTED)}")
            frame = EditFrame(self.scene, self.scenario.start)
            arc, lateral, along = frame.route.project(x, y)
            placed = frame.place(np.array([arc]), np.array([lateral]))[0]
            if np.hypot(placed[0] - x, placed[1] - y) > _ASTRAY:
                raise ConfigError("that place is beyond the route's end, from which places are measured: choose a nearer one")
            turned = 0.0 if heading is None else float((heading - along + np.pi) % (2 * np.pi) - np.pi)
            ahead, beside, heading = (round(float(value), 3) for value in (arc - frame.origin, lateral, turned))
            edit = Insert(category, ahead, beside, heading, round(speed, 2), straight=True, at=round(self.cursor * TICK, 1))
            return self.put(edit)

    def put(self, edit: Insert) -> Insert:
        """An insertion at the present instant. The drive up to here stays as it was, bit for bit."""
        with self._lock:
            assert self._scenario is not None
            if self.now.ended_by is not None:
                raise ConfigError("the episode is over: go back first")
            inserted = (*self._inserted(), edit)
            scenario = replace(self._scenario, edits=(*self._scenario.edits, *inserted))
            past = self.path[: self.cursor + 1]
            again = self._driven(scenario, [moment.decision for moment in past[1:] if moment.decision is not None])
            self._check_past(past, again)
            self._check_place(again[-1])
            here = replace(again[-1], inserted=(*past[-1].inserted, edit))
            self._leave()
            self.path = [*past[:-1], here]
            return edit

    def close(self) -> None:
        """Lets go of everything."""
        with self._lock:
            for env in self._envs.values():
                env.close()
            self._envs, self._at, self._reels, self._peeks = {}, {}, {}, {}

    # The pictures

    def show(self, look: Look) -> None:
        """Another world shows the drive from now on. Raises ConfigError, DataError or WeightsError, and then nothing changes."""
        world = self.worlds.open(look)
        if self.worlds.size(look, self.settings.size) != self.settings.size:
            raise ConfigError(f"world={look.world!r} cannot draw pictures of {self.settings.size}")
        with self._lock:
            if self.path:
                world.reset([self.now.seen.start])  # says so where it cannot show this scene
            self.look = look

    def paint(self, progress: Callable[[int, int], None] = lambda done, total: None) -> Picture:
        """What the world shows now. A world that has been swapped in is stepped from the start first, through all instants that
        were shown; ``progress`` is called with how many of how many steps are done, and stops them by raising."""
        return self._painted(progress)[0]

    def truth(self, beside: Beside | None = None, of: Picture | None = None) -> Picture | None:
        """The same by the world that knows the truth, None where there is none; from beside the car where that is given. of: a
        picture to compare with, for time may have gone on since; else of the present instant."""
        with self._painting:
            with self._lock:
                look, moment, tick = Look(TRUTH), of.moment if of else self.now, of.tick if of else self.cursor
                reel = self._reels.setdefault(look, Reel(self.worlds.open(look)))
            try:
                frame = reel.at([moment.seen])
                return Picture(moment, tick, Drawn(look, frame if beside is None else reel.look(elsewhere(*beside))))
            except DataError:
                return None

    def beside(self, place: Beside, progress: Callable[[int, int], None] = lambda done, total: None) -> Picture:
        """What the world shows of the present instant from beside the car. progress: as of ``paint``."""
        with self._painting:
            picture, reel = self._painted(progress)
            seen = Drawn(picture.drawn.look, reel.look(elsewhere(*place)))
            return replace(picture, drawn=seen, elsewhere=True)

    # Parts

    def _painted(self, progress: Callable[[int, int], None]) -> tuple[Picture, Reel]:
        """The picture of the present instant, and the reel that has it last."""
        with self._painting:
            with self._lock:
                look, moment, tick, last = self.look, self.now, self.cursor, self.cursor == len(self.path) - 1
                seen = [*(each.seen for each in self.path[:tick] if each.shown is not None), moment.seen]
                reel = self._reel(look)
            drawn = Drawn(look, reel.at(seen, progress))
            with self._lock:
                if last and moment.shown is None and tick < len(self.path) and self.path[tick] is moment:
                    moment = replace(moment, shown=drawn.shown)
                    self._at = {kind: moment if at is self.path[tick] else at for kind, at in self._at.items()}
                    self.path[tick] = moment
            return Picture(moment, tick, drawn), reel

    def _inserted(self) -> tuple[Insert, ...]:
        """What was inserted up to the present instant."""
        return tuple(edit for moment in self.path[: self.cursor + 1] for edit in moment.inserted)

    def _reel(self, look: Look) -> Reel:
        """The one that knows most of the path up to the present instant; looking back spoils nothing for the way forth."""
        if look not in self._reels:
            self._reels[look] = Reel(self.worlds.open(look))
        if self.cursor == len(self.path) - 1:
            return self._reels[look]
        if look not in self._peeks:
            self._peeks[look] = self._reels[look].copy()
        return self._peeks[look]

    def _leave(self) -> None:
        """Keeps the path as a branch where it goes on beyond the present instant, which another one will leave here."""
        if self.cursor < len(self.path) - 1:
            self.branches = [*self.branches, self.path][-BRANCHES:]
            self._reels, self._peeks = self._peeks, {}

    def _env(self, kind: str) -> DiST4DDrivingEnv:
        """The environment whose actions are of a kind."""
        if kind not in self._envs:
            given = self.settings
            self._envs[kind] = gym.make(
                "DiST4D-nuScenes-v0",
                disable_env_checker=True,
                dataroot=given.dataroot,
                version=given.version,
                dataset=given.dataset,
                scenes=given.scenes,
                size=given.size,
                traffic=given.traffic,
                world=self._stage,
                action=kind,
                observation=("ego",) if kind == "controls" else ("ego", "route", "agents"),
                decision_dt=TICK,
                render_mode="rgb_array",  # so that worlds are told where the ego is heading
            )
        driving: Any = self._envs[kind].unwrapped
        return driving

    def _driving(self, kind: str) -> DiST4DDrivingEnv:
        """The same, at the present instant."""
        driving = self._env(kind)
        if self._at.get(kind) is not self.now:
            driving.restore(self.now.snapshot)
            self._at[kind] = self.now
        return driving

    def _stepped(self, before: Moment, decision: Decision) -> Moment:
        """The moment that a decision leads to."""
        driving = self._env(decision.kind)
        if self._at.get(decision.kind) is not before:
            driving.restore(before.snapshot)
        _, reward, _, _, info = driving.step(decision.action)
        moment = Moment(driving.snapshot(), driving.episode.world, info, reward, decision)
        self._at[decision.kind] = moment
        return moment

    def _driven(self, scenario: Scenario, decisions: Sequence[Decision]) -> list[Moment]:
        """The moments of a scenario under some decisions, from its start."""
        driving = self._env("controls")
        self._at = {}
        _, info = driving.reset(seed=self.settings.seed, options={"scenario": scenario})
        moments = [Moment(driving.snapshot(), driving.episode.world, info)]
        self._at["controls"] = moments[0]
        for decision in decisions:
            moments.append(self._stepped(moments[-1], decision))
        return moments

    @staticmethod
    def _check_past(past: Sequence[Moment], again: Sequence[Moment]) -> None:
        """Raises ConfigError where traffic would have been another had it known of the insertion."""
        for one, other in zip(past, again, strict=True):
            assert one.snapshot.episode is not None and other.snapshot.episode is not None
            was, new = one.snapshot.episode.state, other.snapshot.episode.state
            kept = new.agents.fitted(was.tracks)
            same = np.array_equal(was.ego, new.ego) and np.array_equal(was.agents.valid, kept.valid)
            if not (same and np.array_equal(was.agents.values, kept.values)):
                raise ConfigError(
                    "this traffic model looks ahead: with the insertion what has been driven would have gone differently"
                )

    def _check_place(self, moment: Moment) -> None:
        """Raises ConfigError where the object inserted last overlaps the ego or another one that has left its logged place."""
        assert moment.snapshot.episode is not None
        state = moment.snapshot.episode.state
        tracks = moment.seen.start.scene.tracks
        boxes = state.agents[0].boxes(tracks.category, tracks.size)
        ego = state.ego[0]
        ahead = self.vehicle.rear_axle_to_center
        x, y = ego[0] + ahead * np.cos(ego[2]), ego[1] + ahead * np.sin(ego[2])
        outlines = _outlines(boxes)
        new = outlines[boxes.token == len(tracks) - 1]
        others = outlines[boxes.token != len(tracks) - 1]
        car = shapely.polygons(rectangle_corners(x, y, ego[2], self.vehicle.length, self.vehicle.width))
        if len(new) and shapely.intersects(np.append(others, car), new[0]).any():
            raise ConfigError("that place is taken: choose a free one")


def _outlines(boxes: Boxes) -> np.ndarray:
    """(N,) shapely polygons of the boxes' footprints."""
    x, y, _ = boxes.position.T
    outlines: np.ndarray = shapely.polygons(rectangle_corners(x, y, boxes.yaw, boxes.size[:, 0], boxes.size[:, 1]))
    return outlines
