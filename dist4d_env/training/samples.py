"""Sample stores: training samples on disk, because splatting costs more than a training step.

One folder per scene holds its keyframes with their controls, and splats: memories rendered at a keyframe whose own image the
memory lacks.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from dist4d_env.data.tables import read_json
from dist4d_env.errors import ConfigError, DataError
from dist4d_env.geometry.rgbd import RGBDFrame
from dist4d_env.geometry.transforms import invert
from dist4d_env.models.conditions import BEV_SHAPE, Controls, SplatImages, TargetConditions
from dist4d_env.models.pretrained import resolve_weights
from dist4d_env.models.signals import signal_layout
from dist4d_env.scenes.files import write_text

NEXT, BETWEEN, SPACE = 0, 1, 2
"""Kinds of splats: the future from the past; a hidden keyframe among its neighbours; a hidden keyframe from one or two others."""

FORMAT = 3
SETTINGS = "settings.json"
"""File of a folder of samples that tells how they are made."""
SOURCE = "source.txt"
"""File of a scene's samples that tells the state of the files they were made of."""
SMALL = 2**16
"""Bytes of a file up to which its array is kept in memory."""


@dataclass(frozen=True)
class SampleSettings:
    """How samples are made; a folder of samples holds one kind of settings only.

    chunk: keyframes ahead to which a past is rendered; chunk_every: keyframes from one whole chunk to the next, single steps
    between; between, space: splats of these kinds per keyframe; flawed: share of splats whose sources have errors as
    recorded frames have them (``source_errors``); count: frames of the memory that a splat uses; strides: keyframes from one
    frame of a sample to the next, one of them drawn for each: several where keyframes are dense; held_out: by scene the keyframe
    from which on samples neither show nor use any.
    """

    height: int
    width: int
    chunk: int = 4
    chunk_every: int = 3
    between: float = 0.5
    space: float = 1.5
    flawed: float = 0.25
    count: int = 3
    seed: int = 0
    strides: tuple[int, ...] = (1,)
    held_out: tuple[tuple[str, int], ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "strides", tuple(self.strides))  # JSON knows lists only
        object.__setattr__(self, "held_out", tuple((name, first) for name, first in self.held_out))
        if not self.strides or min(self.strides) < 1:
            raise ConfigError(f"strides must be keyframes from 1 on, not {self.strides}")


class ArrayFolder(Mapping[str, np.ndarray]):
    """The arrays of a folder by name, read-only: small ones are read once, larger ones mapped from disk at every access.

    A mapping keeps its file open for as long as it lives. Kept, those of a data set would use up what a process may open.
    """

    def __init__(self, folder: Path) -> None:
        self._files = {file.stem: file for file in sorted(folder.glob("*.npy"))}
        self._small: dict[str, np.ndarray] = {}

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._small:
            file = self._files[name]
            if file.stat().st_size > SMALL:
                return np.load(file, mmap_mode="r")
            self._small[name] = np.load(file)
            self._small[name].setflags(write=False)
        return self._small[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


@dataclass(frozen=True)
class SceneSamples:
    """The samples of one scene, on disk. K keyframes, S splats, V cameras."""

    folder: Path

    @cached_property
    def arrays(self) -> ArrayFolder:
        """Every array by name; the large ones stay on disk until they are indexed."""
        return ArrayFolder(self.folder)

    @property
    def kind(self) -> np.ndarray:
        """(S,) NEXT, BETWEEN or SPACE."""
        return self.arrays["kind"]

    @property
    def reference(self) -> np.ndarray:
        """(S,) keyframe that is DiST-T's reference, the last known frame."""
        return self.arrays["reference"]

    @property
    def target(self) -> np.ndarray:
        """(S,) keyframe at whose cameras the splat is rendered."""
        return self.arrays["target"]

    def frame(self, keyframe: int) -> RGBDFrame:
        """The true RGB-D frame of a keyframe."""
        a = self.arrays
        views = a["frame_rgb"].shape[1]
        return RGBDFrame(
            np.array(a["frame_rgb"][keyframe]),
            np.array(a["frame_depth"][keyframe], np.float32),
            np.array(a["intrinsics"]),
            np.array(a["global_from_camera"][keyframe]),
            np.full(views, a["time"][keyframe]),
        )

    def images(self, splat: int) -> SplatImages:
        """Network inputs of a splat."""
        names = ("base_rgb", "base_depth", "other_rgb", "masks")
        return SplatImages(*(np.array(self.arrays[f"splat_{name}"][splat]) for name in names))

    def controls(self, keyframe: int) -> Controls:
        """Controls of a keyframe."""
        a = self.arrays
        return Controls(
            np.array(a["layout"][keyframe]),
            np.unpackbits(a["bev"][keyframe], count=int(np.prod(BEV_SHAPE))).reshape(BEV_SHAPE),
            np.array(a["box_corners"][keyframe]),
            np.array(a["box_class"][keyframe], np.int64),
            np.array(a["box_instance"][keyframe], np.int64),
            np.array(a["intrinsics"]),
            invert(a["global_from_ego"][keyframe]) @ a["global_from_camera"][keyframe],
            np.array(a["attributes"]),
        )

    def head_states(self, keyframe: int) -> np.ndarray:
        """(K,) states of the heads of traffic lights at a keyframe."""
        return np.array(self.arrays["head_state"][keyframe]) if "heads" in self.arrays else np.zeros(0, np.int8)

    def signals(self, keyframe: int, view: int | None = None) -> np.ndarray:
        """(V, H, W, 4) uint8, the heads of traffic lights at a keyframe's cameras, or at one of them alone."""
        return self.signals_as(keyframe, self.head_states(keyframe), view)

    def signals_as(self, keyframe: int, states: np.ndarray, view: int | None = None) -> np.ndarray:
        """The same with the heads in states (K,)."""
        a, views = self.arrays, slice(None) if view is None else slice(view, view + 1)
        heads = np.array(a["heads"]) if len(states) else np.zeros((0, 4))
        size = a["frame_rgb"].shape[2:4]
        return signal_layout(heads, states, a["intrinsics"][views], a["global_from_camera"][keyframe, views], *size)

    def conditions(self, splat: int) -> TargetConditions:
        """Conditions of a splat's frame, relative to its reference."""
        reference, target = int(self.reference[splat]), int(self.target[splat])
        poses, time = self.arrays["global_from_ego"], self.arrays["time"]
        return TargetConditions(
            self.images(splat),
            self.controls(target),
            invert(poses[reference]) @ poses[target],
            float(time[target] - time[reference]),
        )

    def reference_frame(self, splat: int) -> RGBDFrame:
        """The last known frame before a splat's: a keyframe or, in rollouts, a generated frame at that keyframe's cameras."""
        frame, row = self.frame(int(self.reference[splat])), int(self.arrays["made"][splat]) if "made" in self.arrays else -1
        if row < 0:
            return frame
        rgb, depth = self.arrays["made_rgb"][row], self.arrays["made_depth"][row]
        return replace(frame, rgb=np.array(rgb), depth=np.array(depth, np.float32))

    def since_real(self, splat: int) -> float:
        """Seconds from the last real frame that the splat's memory could hold to the splat's."""
        last = self.arrays["last_real"] if "last_real" in self.arrays else self.reference
        return float(self.arrays["time"][int(self.target[splat])] - self.arrays["time"][int(last[splat])])

    def generated_references(self) -> list[int]:
        """For every generated frame that served as a reference, the first of the splats that follow it."""
        if "made" not in self.arrays:
            return []
        frames, first = np.unique(self.arrays["made"], return_index=True)
        return [int(row) for index, row in zip(frames, first, strict=True) if index >= 0]

    def chunks(self, length: int) -> Iterator[list[int]]:
        """Runs of ``length`` NEXT splats, one reference, targets in order from the first step."""
        kinds, targets = np.array(self.kind), np.array(self.target)
        runs = np.array(self.arrays["chunk"] if "chunk" in self.arrays else self.reference)
        for run in np.unique(runs[kinds == NEXT]):
            rows = np.flatnonzero((kinds == NEXT) & (runs == run))
            rows = rows[np.argsort(targets[rows], kind="stable")]
            if len(rows) >= length:
                yield [int(row) for row in rows[:length]]


class SampleStore:
    """Scenes of a folder of samples, in the order of their names.

    names: of these scenes alone, others in the folder are those of other runs; None takes all that it holds. Raises
    ``DataError`` where there are no samples, or none of a named scene.
    """

    def __init__(self, folder: Path, names: Sequence[str] | None = None) -> None:
        self.folder = folder
        self.settings = read_settings(folder)
        held = [path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
        chosen = sorted(held if names is None else set(names))
        if not chosen:
            raise DataError(f"{folder} holds no samples; make them from a data set with --dataroot")
        if missing := sorted(set(chosen) - set(held)):
            raise DataError(f"{folder} holds no samples of {', '.join(missing)}; make them from a data set with --dataroot")
        self.scenes = [SceneSamples(folder / name) for name in chosen]

    def generated_references(self) -> list[tuple[int, int]]:
        """(scene, splat) of every generated frame, each once, as the splat's reference."""
        return [(s, row) for s, scene in enumerate(self.scenes) for row in scene.generated_references()]

    def rows(self, kind: int) -> list[tuple[int, int]]:
        """(scene, splat) of every splat of a kind."""
        return [(s, int(row)) for s, scene in enumerate(self.scenes) for row in np.flatnonzero(scene.kind == kind)]

    def chunks(self, length: int) -> list[tuple[int, list[int]]]:
        """(scene, splats) of every run of ``length`` steps ahead."""
        return [(s, rows) for s, scene in enumerate(self.scenes) for rows in scene.chunks(length)]


def read_settings(folder: Path) -> SampleSettings:
    """The settings that a folder's samples were made with."""
    file = folder / SETTINGS
    if not file.is_file():
        raise DataError(f"{folder} is no folder of samples ({file.name} is missing); make them from a data set with --dataroot")
    content = read_json(file, f"delete {folder}")
    if type(content) is not dict or content.pop("format", None) != FORMAT:
        raise DataError(f"{folder} holds samples of another version; delete it and make them again")
    return SampleSettings(**content)


def write_settings(folder: Path, settings: SampleSettings) -> None:
    """Mark a folder as samples of these settings; ``DataError`` where it holds others."""
    if (folder / SETTINGS).is_file():
        if read_settings(folder) != settings:
            raise DataError(f"{folder} holds samples made with other settings; choose another folder or delete it")
        return
    write_text(folder / SETTINGS, json.dumps({"format": FORMAT} | asdict(settings)))


def write_scene(folder: Path, name: str, arrays: dict[str, np.ndarray], source: str = "") -> None:
    """Write a scene's arrays, all or nothing. source: the state of the files that they were made of."""
    fresh = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=folder))
    try:
        for key, array in arrays.items():
            np.save(fresh / f"{key}.npy", array)
        (fresh / SOURCE).write_text(source)
        fresh.rename(folder / name)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise


def stamp_weights(folder: Path, weights: str, part: str) -> None:
    """Mark a folder of samples as made by a model of these weights; ``DataError`` where it was made by others.

    weights: a shipped preset or a folder; part: the model's folder in it, such as "dist_s".
    """
    files = sorted(file for file in (resolve_weights(weights) / part).glob("*") if file.is_file())
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    stamp = folder / "weights.json"
    made_by = json.loads(stamp.read_text())[part] if stamp.is_file() else None
    if made_by == digest:
        return
    if made_by is not None or any(path.is_dir() for path in folder.iterdir()):
        raise DataError(f"{folder} holds samples that {weights} did not make; delete it or choose another folder")
    write_text(stamp, json.dumps({part: digest}))
