"""The shape of an annotated object by its nuScenes category; nothing sticks out of its box."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dist4d_env.errors import DataError
from dist4d_env.town import meshes_people as people
from dist4d_env.town import meshes_vehicles as vehicles
from dist4d_env.town.meshes import Mesh, box
from dist4d_env.town.model import Actor
from dist4d_env.town.textures import TextureSet
from dist4d_env.town.textures_ground import SEMANTICS

_VEHICLES = (
    ("vehicle.car", vehicles.car), ("vehicle.emergency", vehicles.car), ("vehicle.truck", vehicles.truck),
    ("vehicle.bus", vehicles.bus), ("vehicle.trailer", vehicles.trailer), ("vehicle.construction", vehicles.construction),
)  # fmt: skip


def poses(actor: Actor) -> bool:
    """Whether the shape of an actor changes with time (people walk)."""
    return actor.name.startswith(("human.", "animal"))


def actor_mesh(actor: Actor, textures: TextureSet, phase: float = 0.0, walking: bool = False) -> Mesh:
    """The actor in the frame of its box, origin at the centre. ``phase`` and ``walking`` pose a pedestrian.

    Raises DataError for a category that the town does not draw.
    """
    name, size, style = actor.name, actor.size, actor.style
    moving = bool(np.ptp(actor.position[:, :2], axis=0).max() > 1.0)
    if poses(actor):
        mesh = people.pedestrian(size, style, phase, walking)
    elif name.startswith("vehicle.bicycle"):
        mesh = people.bicycle(size, style, moving)
    elif name.startswith("vehicle.motorcycle"):
        mesh = people.motorcycle(size, style, moving)
    elif name.startswith("movable_object.trafficcone"):
        mesh = people.cone(size, style)
    elif name.startswith("movable_object.barrier"):
        mesh = people.barrier(size, style)
    elif name.startswith("movable_object.debris"):
        length, width, height = size
        low, high = (-length / 2, -width / 2, 0.0), (length / 2, width / 2, height)
        mesh = box(low, high, tint=vehicles.paint_of(style), semantic=SEMANTICS.index("barrier"))
    else:
        for prefix, make in _VEHICLES:
            if name.startswith(prefix):
                mesh = make(size, style, textures)
                break
        else:
            raise DataError(f"the town has no shape for category {name!r} (instance {actor.instance}); choose a known one")
    if not moving:
        mesh = replace(mesh, glow=np.zeros_like(mesh.glow))  # parked vehicles have their lights off
    half = np.array(size, np.float32) / 2
    return replace(mesh, corners=np.clip(mesh.corners - (0, 0, half[2]), -half, half).astype(np.float32))
