"""Appearance bank: the pixels of recorded agents, shown in the boxes of inserted ones of their category."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from dist4d_env.geometry import deterministic
from dist4d_env.geometry.boxes import CATEGORIES, Boxes
from dist4d_env.geometry.splat_source import SplatSource
from dist4d_env.geometry.transforms import wrap_angle
from dist4d_env.scenes.scene import TICK, Scene
from dist4d_env.worlds.stand_in import Sighting, Whole, stand_in

NEAREST, FARTHEST = 2.5, 35.0
"""Metres between the cameras and an agent that can be a donor."""
SHOWN = 2
"""Views of the donor that take part in one picture of the recipient."""
_TRIED = 12  # views of a donor that are looked at, the most fitting ones
_SEEN = 0.25  # share of an agent's outline that must really be in the picture
_THROUGH = 4.0  # m: the recorded ego, which knows nothing of a recipient, would now drive through it
_EXPECTED = 10.0  # s of the recorded drive over which expected views of a recipient are averaged
_KINDS = (("truck", "bus", "trailer", "construction_vehicle"), ("motorcycle", "bicycle"))
_ALIKE = [[CATEGORIES.index(other) for other in next((kind for kind in _KINDS if name in kind), (name,))] for name in CATEGORIES]
"""Categories, by category, whose agents may be donors of one another."""
_TWO_FACED = [CATEGORIES.index(name) for name in ("truck", "construction_vehicle")]
"""Categories whose front, a cab, is of another shape and colour than the back: they are not shown back to front."""
Seen = tuple[Boxes, np.ndarray, Sighting]
"""The recorded agents at a remembered frame, the mean position (3,) of its cameras, and its source."""


@dataclass(frozen=True)
class View:
    """A recorded agent as some remembered frame shows it. azimuth: radians in its box's frame towards the cameras; distance:
    metres; turned: it is shown back to front; mirrored: its left as its right, which of most things on a street look alike;
    other_category: it is of another one than the recipient."""

    token: int
    azimuth: float
    distance: float
    source: Sighting
    turned: bool = False
    mirrored: bool = False
    other_category: bool = False

    def misfit(self, azimuth: np.ndarray, distance: np.ndarray) -> np.ndarray:
        """How badly this view stands for one from other azimuths and distances (...): seen from elsewhere, or coarser."""
        shows = self.azimuth * (-1 if self.mirrored else 1) + np.pi * self.turned
        away = np.abs(wrap_angle(shows - azimuth)) / 0.5
        unlike = 0.2 * self.mirrored + 2.0 * self.turned + 4.0 * self.other_category
        return away + np.maximum(deterministic.log(self.distance / distance), 0.0) + unlike


@dataclass(frozen=True)
class AppearanceBank:
    """views: by the recipient's token, all of one donor, so that it looks the same all the time; stretch: by token (3,), how many
    times as long, wide and high as the donor's box the recipient's is, which it fills, for with that it can collide; stand_ins:
    by token, the body that is seen where no view shows one."""

    views: dict[int, tuple[View, ...]]
    stretch: dict[int, np.ndarray]
    stand_ins: dict[int, SplatSource]

    @classmethod
    def of(cls, scene: Scene, start_time: float, frames: Sequence[tuple[float, np.ndarray, Sighting]]) -> AppearanceBank:
        """For the agents that a scenario has inserted. frames: time, mean camera position (3,) and source of each.

        Where no frame shows an agent of a similar category, the inserted one is a plain body. So is a part of another agent, in
        that one's colours.
        """
        views: dict[int, tuple[View, ...]] = {}
        stretch, stand_ins = {}, {}
        recorded = scene.recorded
        seen = [(recorded.boxes(min(max(time, 0.0), scene.duration)), position, source) for time, position, source in frames]
        street = min(frames, key=lambda frame: abs(frame[0] - start_time))[2]().frame
        for token in range(len(recorded.tracks), len(scene.tracks)):
            wanted = _expected(scene, token, start_time)
            category = int(scene.tracks.category[token])
            part = token in scene.tracks.part_of
            donors = {} if part else _donors(seen, category)
            order = sorted(donors, key=lambda donor: (_coverage(donors[donor], *wanted), donor))
            for donor in order[:4]:
                fitting = sorted(donors[donor], key=lambda view: float(view.misfit(*wanted).min()))[:_TRIED]
                good = tuple(view for view in fitting if _shown_share(view, recorded.tracks.size[donor]) > _SEEN)
                if good:
                    views[token] = good
                    stretch[token] = scene.tracks.size[token] / recorded.tracks.size[donor]
                    break
            sightings = [partial(_standing_for, view, token, stretch[token]) for view in views.get(token, ())]
            size, moves = scene.tracks.size[token], scene.tracks.moves(token)
            whole = _whole(scene, scene.tracks.part_of[token], seen, views, stretch) if part else None
            stand_ins[token] = stand_in(token, category, size, start_time, street, sightings, moves, whole)
        return cls(views, stretch, stand_ins)

    def sources(self, global_from_camera: np.ndarray, boxes: Boxes) -> list[SplatSource]:
        """Splat sources of the recipients among the boxes, for cameras at poses (V, 4, 4)."""
        sources, bodies = [], []
        for token, body in self.stand_ins.items():
            here = np.flatnonzero(boxes.token == token)
            if len(here):
                at = _seen_from(boxes.position[here[0]], float(boxes.yaw[here[0]]), global_from_camera[:, :3, 3].mean(0))
                best = sorted(self.views.get(token, ()), key=lambda view: float(view.misfit(*at)))[:SHOWN]
                sources += [_lent(view, token, self.stretch[token]) for view in best]
                bodies.append(body)
        return sources + bodies


def _whole(
    scene: Scene, token: int, seen: Sequence[Seen], views: Mapping[int, Sequence[View]], stretch: Mapping[int, np.ndarray]
) -> Whole:
    """An agent that another one is a part of, in the frames nearest to it, or as its views show it if it is inserted itself."""
    sightings: list[Sighting]
    if token >= len(scene.recorded.tracks):
        sightings = [partial(_standing_for, view, token, stretch[token]) for view in views.get(token, ())]
    else:
        found: list[tuple[float, Sighting]] = []
        for boxes, position, source in seen:
            for index in np.flatnonzero(boxes.token == token):
                distance = float(np.linalg.norm(boxes.position[index] - position))
                if NEAREST < distance < FARTHEST:
                    found.append((distance, source))
        sightings = [source for _, source in sorted(found, key=lambda one: one[0])[:SHOWN]]
    return Whole(token, scene.tracks.size[token], sightings)


def _lent(view: View, recipient: int, stretch: np.ndarray) -> SplatSource:
    """Only the donor's pixels of a source, as if they had been the recipient's."""
    source = _standing_for(view, recipient, stretch)
    return replace(source, keep=source.keep & (source.owner_token == recipient))


def _standing_for(view: View, recipient: int, stretch: np.ndarray) -> SplatSource:
    """A source in which the donor's boxes are the recipient's."""
    source = view.source()
    own = source.box_token == view.token
    pose = source.box_pose.copy()
    shown_as = stretch * (-1 if view.turned else 1, -1 if view.turned != view.mirrored else 1, 1)
    pose[own, :3, :3] /= shown_as
    return replace(source, box_token=np.where(own, recipient, source.box_token), box_pose=pose)


def _donors(seen: Sequence[Seen], category: int) -> dict[int, list[View]]:
    """Every view, as it is, mirrored and, where its category allows it, turned, of every recorded agent of a kind that is neither
    too near nor too far."""
    found: dict[int, list[View]] = {}
    for boxes, position, source in seen:
        for index in np.flatnonzero(np.isin(boxes.category, _ALIKE[category])).tolist():
            azimuth, distance = _seen_from(boxes.position[index], float(boxes.yaw[index]), position)
            if NEAREST < distance < FARTHEST:
                token, other = int(boxes.token[index]), bool(boxes.category[index] != category)
                view = View(token, float(azimuth), float(distance), source, other_category=other)
                ways = (False,) if boxes.category[index] in _TWO_FACED else (False, True)
                kinds = [(turned, mirrored) for turned in ways for mirrored in (False, True)]
                found.setdefault(token, []).extend(replace(view, turned=t, mirrored=m) for t, m in kinds)
    return found


def _expected(scene: Scene, token: int, start_time: float) -> tuple[np.ndarray, np.ndarray]:
    """Azimuths and distances (K,) from which the recorded ego would see an object in the seconds to come."""
    tracks, first = scene.tracks, round(start_time / TICK)
    rows = np.arange(first, min(first + round(_EXPECTED / TICK) + 1, len(tracks.time)), 5)
    rows = rows[tracks.valid[token, rows]]
    if not len(rows):
        return np.zeros(1), np.array([10.0])
    ego = scene.ego.global_from_ego[rows, :3, 3]
    azimuth, distance = _seen_from(tracks.position[token, rows], tracks.yaw[token, rows], ego)
    near = (distance < 2 * FARTHEST) & ~np.logical_or.accumulate(distance < _THROUGH)
    return (azimuth[near], distance[near]) if near.any() else (azimuth[:1], distance[:1])


def _coverage(views: Sequence[View], azimuth: np.ndarray, distance: np.ndarray) -> float:
    return float(np.min([view.misfit(azimuth, distance) for view in views], axis=0).mean())


def _seen_from(centre: np.ndarray, yaw: np.ndarray | float, position: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Azimuth (...) in a box's frame towards a position (..., 3), and the distance."""
    toward = position - centre
    azimuth = wrap_angle(deterministic.arctan2(toward[..., 1], toward[..., 0]) - yaw)
    return azimuth, np.maximum(np.hypot(toward[..., 0], toward[..., 1]), 1.0)


def _shown_share(view: View, size: np.ndarray) -> float:
    """The share of an agent's outline that its frame really shows, roughly."""
    source = view.source()
    pixels = int(np.count_nonzero(source.keep & (source.owner_token == view.token)))
    length, width, height = size.tolist()
    across = abs(deterministic.cos(view.azimuth)) * width + abs(deterministic.sin(view.azimuth)) * length
    focal = float(source.frame.intrinsics[:, 0, 0].mean())
    return pixels / max(focal**2 * across * height / view.distance**2, 1.0)
