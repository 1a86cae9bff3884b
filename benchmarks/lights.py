"""Traffic lights that change after the last real frame: do generated pictures show what they are commanded to show?

After a keyframe every light takes another state than the recorded one, which the world is told of (``SceneAt.lights``) and the
oracle draws. Two protocols: ``history`` remembers only images before the change and goes along the recorded drive (DiST-T);
``log`` remembers all of the log, with the recorded states, and swerves beside it between the keyframes (DiST-S, too).

A head counts where the oracle's pictures with all lights red, amber and green differ in it visibly; it shows the one of the three
that its pixels are nearest to. Rows: the splat, the codec applied to the truth (what DiST-T's latents can hold), the weights with
nothing told of lights ("untold"), and the weights.

    python -m benchmarks.lights --out benchmarks/results/lights.json
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from benchmarks.common import FinishedUnits, TownOptions, result_file, run
from benchmarks.protocols import HISTORY_START, SWERVE, SWERVE_PERIOD
from benchmarks.rollouts import codec_of, holding, logged, scene_at, swerving, through_codec
from dist4d_env.curation.prepare import sensor_files
from dist4d_env.data.open import open_dataset
from dist4d_env.errors import ConfigError, DataError
from dist4d_env.geometry.cameras import CameraRig, parse_size
from dist4d_env.geometry.rgbd import RGBDFrame
from dist4d_env.models.signals import LENS, signal_layout
from dist4d_env.progress import each
from dist4d_env.scenes.lights import AMBER, GREEN, RED
from dist4d_env.scenes.scene import Scene
from dist4d_env.simulation.scene_at import SceneAt
from dist4d_env.worlds.contract import World, WorldStart
from dist4d_env.worlds.dist4d import GenerativeWorld
from dist4d_env.worlds.factory import make_world
from dist4d_env.worlds.memory import MemoryPolicy

MEMORIES: tuple[MemoryPolicy, ...] = ("history", "log")
STATES = (RED, AMBER, GREEN)
LAGS = (0.5, 1.0, 2.0)
"""Seconds after the last real frame."""
BETWEEN = (0.25, 0.75)
"""Seconds after a keyframe at which the log's protocol looks: on the path that DiST-T foresaw, and beside it."""
CONTRAST = 64
"""Levels of 255 by which two states differ in a head's pixel at least, for the head to count."""
LARGE = 2.0
"""Pixels of a lamp's diameter from which on it counts as large."""


@dataclass(frozen=True)
class Options(TownOptions):
    """Share of heads that show their commanded state."""

    starts: int = 4
    """Instants of each scene after which lights change."""
    seed: int = 0
    """Noise seed."""


class Head(NamedTuple):
    """A head in a picture: its camera, its pixels (H, W), a lamp's diameter in pixels, the commanded state."""

    view: int
    pixels: np.ndarray
    lamp: float
    state: int


def main(options: Options) -> dict[str, Any]:
    size = parse_size(options.size)
    dataset = open_dataset(options.dataroot, scenes=options.split, size=size)
    codec = codec_of(options.weights)
    if codec is None:
        raise ConfigError("--weights splat has a row of its own beside those of a model: give a preset or a folder")
    names = dataset.scene_names(options.split)[: options.scenes]
    key = {name: getattr(options, name) for name in ("weights", "starts", "seed", "size")}
    key |= {"town": dataset.dataroot, "format": 2}
    finished = FinishedUnits(options.out, key)
    worlds = {memory: contenders(options.weights, memory) for memory in MEMORIES}
    for name in each([name for name in names if name not in finished.done], "measuring", "scene"):
        scene = dataset.load(name)
        rig, rows = scene.rig.at_size(*size), []
        for number, start in enumerate(starts(scene, rig, options.starts)):
            commanded = changed(scene, start, 1 + number % 2)
            for memory, recorded in protocols(scene, start):
                oracle = Oracle(scene, rig, start)
                scenes = [replace(one, lights=commanded) for one in recorded]
                shown = {name: rolled(world, oracle, options.seed, scenes) for name, world in worlds[memory].items()}
                shown["codec"] = [(through_codec(codec, oracle.show(now, commanded)), "codec") for now in scenes]
                for method, frames in shown.items():
                    for now, (frame, source) in zip(scenes, frames, strict=True):
                        labels = {"protocol": memory, "after": round(now.time - start, 2), "method": method, "source": source}
                        rows += oracle.rows(now, frame, labels)
        finished.add(name, rows)
    results = summary([row for name in names for row in finished.done[name]])
    if not results:
        raise DataError(f"{dataset.dataroot}: in none of {len(names)} scenes is a traffic light in view; nothing is measured")
    result = result_file("lights", options, {"scenes": names, "results": results}, finished)
    for protocol, methods in results.items():
        print(protocol)
        for method, cells in methods.items():
            print(f"  {method:<8}" + "".join(f"{name:>18} {value:6.3f}" for name, value in cells.items()))
    return result


def contenders(weights: str, memory: MemoryPolicy) -> dict[str, World]:
    """The worlds by the names of their rows."""
    told = make_world("dist4d", weights=weights, memory=memory)
    assert isinstance(told, GenerativeWorld)
    splat = make_world("dist4d", weights="splat", memory=memory)
    untold = GenerativeWorld(told.dist_t, told.dist_s, told.memory, told.policy)
    return {"splat": splat, "untold": untold, "weights": told}


def protocols(scene: Scene, start: float) -> Iterator[tuple[MemoryPolicy, list[SceneAt]]]:
    """Memory, and what is true at the instants looked at, of both protocols."""
    drive, swerve = logged(scene), swerving(scene, SWERVE, SWERVE_PERIOD, HISTORY_START)
    yield "history", [scene_at(scene, start + lag, drive, drive, 0.5, ahead=4) for lag in LAGS]
    times = [start + lag for lag in BETWEEN]
    yield "log", [scene_at(scene, time, swerve, holding(scene, swerve, time), 0.5, ahead=4) for time in times]


def rolled(world: World, oracle: Oracle, seed: int, scenes: list[SceneAt]) -> list[tuple[RGBDFrame, str]]:
    """The frames of a world that shows the episode's start and then these, and what made them."""
    scene, start = oracle.scene, oracle.start
    (state,) = world.reset([WorldStart(scene, oracle.rig, start, seed)])
    ((state, _, _),) = world.step([state], [scene_at(scene, start, logged(scene), logged(scene), 0.5, ahead=4)])
    frames = []
    for now in scenes:
        ((state, frame, info),) = world.step([state], [now])
        assert frame is not None
        frames.append((frame, info.source[0]))
    return frames


def changed(scene: Scene, time: float, by: int) -> np.ndarray:
    """(G,) other states than the recorded ones at a time."""
    order = np.array(STATES, np.int8)
    return order[(np.array([STATES.index(state) for state in scene.light_states(time)]) + by) % len(order)]


def starts(scene: Scene, rig: CameraRig, count: int) -> list[float]:
    """Keyframe times, evenly drawn from those with history and lamps in view soon after."""
    found = []
    for time in np.arange(HISTORY_START, scene.duration - max(LAGS) + 1e-6, 0.5):
        later = [scene.ego_pose(time + lag) @ rig.ego_from_camera for lag in LAGS]
        if len(scene.lights) and all(
            signal_layout(*heads_of(scene, scene.light_states(time)), rig.intrinsics, pose, rig.height, rig.width)[..., :3].max()
            > 100
            for pose in later
        ):
            found.append(float(time))
    return [found[k] for k in np.unique(np.linspace(0, len(found) - 1, count).round().astype(int))] if found else []


def heads_of(scene: Scene, lights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Heads (K, 4) and their states (K,) where lights (G,) are so."""
    return scene.lights.heads, lights[scene.lights.head_light]


class Oracle:
    """The true pictures of an episode, with any lights."""

    def __init__(self, scene: Scene, rig: CameraRig, start: float) -> None:
        self.scene, self.rig, self.start, self.world = scene, rig, start, make_world("oracle")
        (self.state,) = self.world.reset([WorldStart(scene, rig, start, 0)])
        self.shown: dict[tuple[float, bytes], RGBDFrame] = {}

    def show(self, now: SceneAt, lights: np.ndarray | None) -> RGBDFrame:
        assert lights is not None
        key = now.time, lights.tobytes()
        if key not in self.shown:
            ((_, frame, _),) = self.world.step([self.state], [replace(now, lights=lights)])
            assert frame is not None
            self.shown[key] = frame
        return self.shown[key]

    def rows(self, now: SceneAt, frame: RGBDFrame, labels: dict[str, Any]) -> list[dict[str, Any]]:
        """One row per head that counts, and one of all other pixels but the car's own body."""
        references = [self.show(now, np.full(len(self.scene.lights), state, np.int8)).rgb.astype(float) for state in STATES]
        truth, rows = self.show(now, now.lights).rgb.astype(float), []
        body = sensor_files(self.scene).body(self.rig.height, self.rig.width)
        around = np.zeros(truth.shape[:3], bool) if body is None else body.copy()
        error = np.square(frame.rgb - truth).mean(-1)
        for head in self.heads(now):
            around[head.view] |= head.pixels
            patches = [one[head.view][head.pixels] for one in (*references, truth)]
            apart = min(np.abs(patches[a] - patches[b]).max() for a, b in ((0, 1), (0, 2), (1, 2)))
            if apart < CONTRAST:
                continue
            patch = frame.rgb[head.view][head.pixels]
            seen = STATES[int(np.argmin([np.square(patch - one).sum() for one in patches[:3]]))]
            rows.append(labels | {"right": seen == head.state, "large": head.lamp >= LARGE,
                                  "error": float(error[head.view][head.pixels].mean())})  # fmt: skip
        return [*rows, labels | {"elsewhere": float(error[~around].mean())}]

    def heads(self, now: SceneAt) -> Iterator[Head]:
        """All heads that face a camera."""
        assert now.lights is not None
        rig, poses = self.rig, now.global_from_ego @ self.rig.ego_from_camera
        for head, light in zip(self.scene.lights.heads, self.scene.lights.head_light, strict=True):
            drawn = signal_layout(head[None], now.lights[[light]], rig.intrinsics, poses, rig.height, rig.width)
            for view in np.flatnonzero(drawn.any((1, 2, 3))):
                away = float((np.linalg.inv(poses[view]) @ [*head[:3], 1.0])[2])
                lamp = 2 * LENS * rig.intrinsics[view, 0, 0] / away
                yield Head(int(view), drawn[view, ..., 3] > 0, lamp, int(now.lights[light]))


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """protocol and time -> method -> share of heads that are right, how many there are, PSNR in heads and elsewhere."""
    results: dict[str, Any] = {}
    for name, method in dict.fromkeys((f"{row['protocol']}/{row['after']:g}s", row["method"]) for row in rows):
        mine = [row for row in rows if (f"{row['protocol']}/{row['after']:g}s", row["method"]) == (name, method)]
        heads, rest = [row for row in mine if "right" in row], [row["elsewhere"] for row in mine if "elsewhere" in row]
        cell = {"heads": float(len(heads)), "dist_s": float(np.mean([row["source"] == "dist_s" for row in mine]))}
        for label, part in (("right", heads), ("large", [h for h in heads if h["large"]])):
            cell[label] = float(np.mean([head["right"] for head in part])) if part else float("nan")
        cell["heads_psnr"] = float(-10 * np.log10(np.mean([head["error"] for head in heads]) / 255**2)) if heads else float("nan")
        cell["elsewhere_psnr"] = float(-10 * np.log10(np.mean(rest) / 255**2))
        results.setdefault(name, {})[method] = cell
    return results


if __name__ == "__main__":
    run(main, Options)
