"""Worlds, traffic models, sensors and readers from elsewhere that break their contracts: named, and nothing passes unseen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from dist4d_env.data.open import open_dataset
from dist4d_env.data.validate import check_scene
from dist4d_env.envs.driving import DiST4DDrivingEnv
from dist4d_env.envs.vector import DiST4DVectorEnv
from dist4d_env.errors import ConfigError, DataError
from dist4d_env.geometry.rgbd import RGBDFrame
from dist4d_env.scenes.lights import TrafficLights
from dist4d_env.scenes.scene import Scene
from dist4d_env.simulation.replay import ReplayTraffic
from dist4d_env.worlds.contract import WorldInfo

VIEWS, HEIGHT, WIDTH = 6, 64, 112
SCENE = "town-val-0000"


def made_frame(**changes: Any) -> RGBDFrame:
    shape = (VIEWS, HEIGHT, WIDTH)
    parts = {
        "rgb": np.zeros((*shape, 3), np.uint8),
        "depth": np.ones(shape, np.float32),
        "intrinsics": np.tile(np.eye(3), (VIEWS, 1, 1)),
        "global_from_camera": np.tile(np.eye(4), (VIEWS, 1, 1)),
        "time": np.zeros(VIEWS),
    }
    return RGBDFrame(**{**parts, **changes})  # type: ignore[arg-type]


def made_info(**changes: Any) -> WorldInfo:
    return WorldInfo(**{"source": ("made",) * VIEWS, "deviation_m": 0.0, "trust": 1.0, **changes})


class Made:
    """A world whose answers are given."""

    def __init__(self, reset: Any = None, step: Any = None, **attributes: Any) -> None:
        self.begin, self.answer = reset, step
        self.__dict__.update(attributes)

    def reset(self, starts: Any) -> Any:
        return [None] * len(starts) if self.begin is None else self.begin(starts)

    def step(self, states: Any, scenes: Any) -> Any:
        return [(None, made_frame(), made_info()) for _ in states] if self.answer is None else self.answer(states)


def telling(**changes: Any) -> Callable[[Any], Any]:
    return lambda states: [(None, made_frame(), made_info(**changes)) for _ in states]


def shown_by(world: Any, root: Any, **keywords: Any) -> str | None:
    env = DiST4DDrivingEnv(dataroot=str(root), world=world, **keywords)
    observation, _ = env.reset(seed=0)
    assert env.observation_space.contains(observation)
    return str(env.step([0.0, 0.0])[4]["ended_by"])


@pytest.mark.parametrize(
    ("world", "said"),
    [
        (Made(reset=lambda starts: None), "reset gave a NoneType for 1 episodes"),
        (Made(reset=lambda starts: []), "reset gave 0 answers for 1"),
        (Made(reset=lambda starts: [None] * 3), "reset gave 3 answers for 1"),
        (Made(step=lambda states: None), "step gave a NoneType"),
        (Made(step=lambda states: (each for each in states)), "step gave a generator"),
        (Made(step=lambda states: [made_frame()]), "not RGBDFrame"),
        (Made(step=telling(source=None)), "source=None"),
        (Made(step=telling(source="splat")), "source='splat'.*6 names"),
        (Made(step=telling(source=("splat",))), "source=.*6 names"),
        (Made(step=telling(source=(b"a",) * VIEWS)), "source="),
        (Made(step=telling(timing_ms=None)), "timing_ms=None"),
        (Made(step=telling(timing_ms={"splat": "3"})), "timing_ms="),
        (Made(step=telling(timing_ms={"splat": float("nan")})), "timing_ms="),
        (Made(step=telling(trust=10**400)), "trust=1000"),
        (Made(step=telling(trust=None)), "trust=None"),
        (Made(step=telling(trust=1.5)), "trust=1.5"),
        (Made(step=telling(deviation_m=-1.0)), "deviation_m=-1.0"),
        (Made(step=telling(deviation_m=float("inf"))), "deviation_m=inf"),
        (Made(image_size=(64,)), r"image_size=\(64,\)"),
        (Made(image_size=(-1, 112)), r"image_size=\(-1, 112\)"),
        (Made(image_size=(float("nan"), 112)), "image_size="),
        (Made(image_size="64x112"), "image_size='64x112'"),
        (Made(image_size=(64, 112), size_multiple=0), "size_multiple=0"),
    ],
)
def test_worlds(town_dataroot, world, said):
    with pytest.raises(ConfigError, match=said) as caught:
        shown_by(world, town_dataroot)
    assert len(str(caught.value)) <= 300 and "\n" not in str(caught.value)


@pytest.mark.parametrize("part", ["intrinsics", "global_from_camera"])
def test_a_frame_from_nowhere_ends_the_episode(town_dataroot, part):
    lost = made_frame(**{part: np.full_like(getattr(made_frame(), part), np.nan)})
    world = Made(step=lambda states: [(None, lost, made_info()) for _ in states])
    assert shown_by(world, town_dataroot) == "broken_frame"


@pytest.mark.parametrize("part", ["intrinsics", "global_from_camera", "time"])
def test_frames_have_a_camera_for_each_picture(part):
    with pytest.raises(ValueError, match="a frame of 6 cameras"):
        made_frame(**{part: getattr(made_frame(), part)[0]})


@pytest.mark.parametrize(
    "points",
    [None, [None], [np.zeros((5, 3))], [np.full((5, 4), np.nan)], [np.zeros((10**6, 4))], [np.array([["a"] * 4])], []],
)
def test_lidar_of_worlds(town_dataroot, points):
    with pytest.raises(ConfigError, match="the world's lidar gave"):
        shown_by(Made(lidar=lambda states, scenes, pattern: points), town_dataroot, observation=("lidar",))


def test_snapshots_of_a_world_that_compares_like_an_array(town_dataroot):
    class Comparing(Made):
        __hash__ = None  # type: ignore[assignment]

        def __eq__(self, other: object) -> Any:
            return np.array([True, True])

    env = DiST4DDrivingEnv(dataroot=str(town_dataroot), world=Comparing(), observation="ego")
    env.reset(seed=0)
    env.restore(env.snapshot())


class Spoiled(ReplayTraffic):
    """Traffic that reacts: ``answer`` makes its own state of the answer to ``start``, ``write`` gets what ``step`` gets."""

    advance = None  # type: ignore[assignment]

    def __init__(self, number: Any = None, own: Any = None, write: Any = None, per_episode: Any = ()) -> None:
        super().__init__()
        self.number, self.own, self.write, self.per_episode = number, own, write, per_episode

    def add(self, scene: Scene) -> Any:
        number = super().add(scene)
        return number if self.number is None else self.number

    def start(self, scene: Any, row: Any, tracks: int) -> Any:
        return ReplayTraffic.advance(self, scene, row - 1, 1, tracks)[:, 0], self.own or {}

    def step(self, scene: Any, row: Any, ego: Any, agents: Any, state: Any) -> Any:
        if self.write is not None:
            self.write(ego, agents, state)
        return ReplayTraffic.advance(self, scene, row, 1, agents.valid.shape[1])[:, 0], state


def driven(town_dataroot: Any, traffic: Any) -> None:
    env = DiST4DDrivingEnv(dataroot=str(town_dataroot), world="none", traffic=traffic)
    env.reset(seed=0)
    env.step([0.0, 0.0])


@pytest.mark.parametrize(
    ("traffic", "said"),
    [
        (Spoiled(number="0"), "numbered a scene '0'"),
        (Spoiled(number=0.5), "numbered a scene 0.5"),
        (Spoiled(own={"pace": 3}), "state 'pace' of traffic model Spoiled is 3"),
        (Spoiled(own={"pace": [3.0]}), "state 'pace'"),
        (Spoiled(own={"pace": np.array(3.0)}), r"shape \(\)"),
        (Spoiled(own={"pace": np.zeros(17)}), r"shape \(17,\): its first axis is the 1 episodes"),
        (Spoiled(own={"pace": np.array([None])}), "names go with arrays of numbers"),
        (Spoiled(own={3: np.zeros(1)}), "the state 3 "),
        (Spoiled(own={"pace": np.zeros((1, 3))}), "name it in the model's per_episode"),
        (Spoiled(own={"pace": np.zeros(1)}, per_episode="pace"), "per_episode='pace'"),
        (Spoiled(own={"pace": np.zeros(1)}, per_episode=None), "per_episode=None"),
    ],
)
def test_traffic(town_dataroot, traffic, said):
    with pytest.raises(ConfigError, match=said) as caught:
        driven(town_dataroot, traffic)
    assert len(str(caught.value)) <= 300


@pytest.mark.parametrize(
    "write",
    [
        lambda ego, agents, state: ego.__iadd__(1.0),
        lambda ego, agents, state: agents.values.__iadd__(1.0),
        lambda ego, agents, state: agents.valid.fill(True),
        lambda ego, agents, state: state["pace"].__iadd__(1.0),
    ],
)
def test_traffic_cannot_write_into_what_it_is_given(town_dataroot, write):
    """Else it moves the ego, or changes snapshots."""
    with pytest.raises(ValueError, match="read-only"):
        driven(town_dataroot, Spoiled(own={"pace": np.zeros(1)}, write=write))


class Felt:
    """A sensor whose space and writing are given."""

    def __init__(self, space: Any = None, write: Any = None) -> None:
        self.given, self.write = space, write

    def space(self, scene: Scene, size: tuple[int, int]) -> Any:
        return {"felt": spaces.Box(-1, 1, (2,), np.float32)} if self.given is None else self.given[0]

    def observe(self, now: Any, out: dict[str, Any]) -> None:
        if self.write is not None:
            self.write(now, out)


@pytest.mark.parametrize(
    ("sensor", "said"),
    [
        (Felt(space=(None,)), "space of sensor .* is None"),
        (Felt(space=({},)), "space of sensor"),
        (Felt(space=({3: spaces.Discrete(2)},)), "space of sensor"),
        (Felt(space=({"felt": 3},)), "'felt' in 3"),
        (Felt(space=({"felt": spaces.Text(3)},)), "'felt' in Text"),
        (Felt(space=({"felt": spaces.Box(-np.inf, np.inf, (2,))},)), "finite bounds"),
        (Felt(write=lambda now, out: out["felt"].fill(np.nan)), "left 'felt' outside its space"),
        (Felt(write=lambda now, out: out["felt"].fill(2.0)), "left 'felt' outside its space"),
        (Felt(write=lambda now, out: out.update(felt=np.zeros(9))), "left 'felt' outside its space"),
        (Felt(write=lambda now, out: out.pop("felt")), "left 'felt' outside its space"),
        (Felt(write=lambda now, out: out.update(more=np.zeros(9))), "added or took away keys"),
        (Felt(write=lambda now, out: out["flet"].fill(0.0)), "sensor .*Felt.* writes 'flet', .* its keys are .*felt"),
    ],
)
def test_sensors(town_dataroot, sensor, said):
    with pytest.raises(ConfigError, match=said):
        DiST4DVectorEnv(2, dataroot=str(town_dataroot), world="none", observation=("ego", sensor)).reset(seed=0)


class Read:
    """A reader that changes the scenes of another."""

    def __init__(self, root: Any, change: Callable[[Scene], Any], names: Any = (SCENE,)) -> None:
        self.inner, self.change, self.found = open_dataset(str(root)), change, names
        self.dataroot, self.version = self.inner.dataroot, self.inner.version

    def names(self) -> Any:
        return self.inner.names()

    def splits(self) -> Any:
        return self.inner.splits()

    def scene_names(self, scenes: Any) -> Any:
        return self.found

    def load(self, name: str, require_map: bool = True) -> Any:
        return self.change(self.inner.load(name, require_map))


def log_with(**changes: Callable[[Any], Any]) -> Callable[[Scene], Scene]:
    return lambda scene: replace(scene, ego=replace(scene.ego, **{k: f(getattr(scene.ego, k)) for k, f in changes.items()}))


def tracks_with(**changes: Callable[[Any], Any]) -> Callable[[Scene], Scene]:
    return lambda scene: replace(
        scene, tracks=replace(scene.tracks, **{k: f(getattr(scene.tracks, k)) for k, f in changes.items()})
    )


def light(scene: Scene, state: int = 1, rows: int = 0, line: float = 0.0, shown: int = 0) -> TrafficLights:
    """One traffic light."""
    states = np.full((1, len(scene.ego.time) + rows), state, np.int8)
    return TrafficLights(("light",), (("lane",),), np.full((1, 2, 2), line), states, np.zeros((1, 4)), np.array([shown]))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda scene: None, "gave a NoneType"),
        (lambda scene: replace(scene, name="other"), "gave the scene 'other'"),
        (log_with(global_from_ego=lambda pose: pose * np.nan), "ego.global_from_ego is not finite"),
        (log_with(global_from_ego=lambda pose: pose * 0), "no poses"),
        (log_with(speed=lambda speed: speed * np.nan), "ego.speed is not finite"),
        (log_with(time=lambda time: time[::-1]), "ego.time is not 0, 0.1"),
        (log_with(yaw_rate=lambda rate: rate[:5]), "ego.yaw_rate has shape"),
        (tracks_with(position=lambda position: position[:3]), "tracks.position has shape"),
        (tracks_with(position=lambda position: position * np.nan), "tracks.position is not finite"),
        (tracks_with(size=lambda size: size * 0), "tracks.size has values"),
        (tracks_with(size=lambda size: size * 1e6), "tracks.size has values"),
        (tracks_with(category=lambda category: category * 0 + 99), "tracks.category has values"),
        (tracks_with(category=lambda category: category - 99), "tracks.category has values"),
        (tracks_with(valid=lambda valid: valid.astype(int)), "tracks.valid is of int64"),
        (tracks_with(time=lambda time: time[:-3]), "tracks.time has shape"),
        (lambda scene: replace(scene, lights=light(scene, state=7)), "lights.state has values"),
        (lambda scene: replace(scene, lights=light(scene, rows=-2)), "lights.state has shape"),
        (lambda scene: replace(scene, lights=light(scene, line=np.nan)), "lights.stop_line is not finite"),
        (lambda scene: replace(scene, lights=light(scene, shown=4)), "lights.head_light has values"),
    ],
)
def test_readers(town_dataroot, change, said):
    reader = Read(town_dataroot, change)
    with pytest.raises(DataError, match=said) as caught:
        DiST4DDrivingEnv(dataset=reader, world="none")
    assert len(str(caught.value)) <= 300
    [broken] = check_scene(reader, SCENE).broken
    assert said in broken


@pytest.mark.parametrize("names", [None, [], SCENE])
def test_readers_without_names(town_dataroot, names):
    with pytest.raises(DataError, match="no names"):
        DiST4DDrivingEnv(dataset=Read(town_dataroot, lambda scene: scene, names), world="none")
