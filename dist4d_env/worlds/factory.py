"""Worlds by name, in this process or shown by a world service."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dist4d_env.errors import ConfigError, shown
from dist4d_env.registry import WORLDS
from dist4d_env.worlds.contract import World, world_traits
from dist4d_env.worlds.memory import MEMORY_POLICIES, MemoryPolicy


def make_world(
    value: Any,
    *,
    weights: str | Path = "tiny",
    memory: MemoryPolicy = "log",
    device: str = "auto",
    service: str | None = None,
) -> World:
    """A world by a name in ``registry.WORLDS``, by ``"module:Class"``, or an object that already is one.

    weights: of "dist4d": a shipped preset, a folder written by ``save_pretrained``, or "splat" (no model: the memory's splat with
    its holes filled); memory: "log" | "history", what a world may remember; device: "auto" takes a GPU where there is one;
    service: the name of a world service (``worlds.service.actors``) on a Ray cluster that shows this world in place of this
    process. Raises ``ConfigError`` for an unknown name or device and ``WeightsError`` for weights that cannot be loaded.
    """
    if memory not in MEMORY_POLICIES:
        raise ConfigError(f"memory={memory!r} is unknown: choose one of {', '.join(map(repr, MEMORY_POLICIES))}")
    WORLDS.check(value)
    if service is not None:
        from dist4d_env.worlds.service.actors import Served
        from dist4d_env.worlds.service.client import RemoteWorld

        return RemoteWorld(service, Served(value, str(weights), memory))
    check_device(device)
    world: World = WORLDS.make(value, ("reset", "step"), weights=weights, memory=memory, device=device)
    return world


def known_size(world: Any, weights: str | Path) -> tuple[tuple[int, int] | None, int | None]:
    """``image_size`` and ``size_multiple`` (``WorldTraits``) before a world is made: of "dist4d" as its weights say, None where
    they say nothing that can be read. Raises ``WeightsError`` where there are none."""
    if world != "dist4d" or str(weights) == "splat":
        traits = world_traits(world)
        return traits.image_size, traits.size_multiple
    from dist4d_env.models.pretrained import read_config, resolve_weights
    from dist4d_env.worlds.dist4d import GenerativeWorld

    size = read_config(resolve_weights(weights) / "dist_t").get("image_size")
    return tuple(size) if isinstance(size, list) else None, GenerativeWorld.size_multiple


def check_device(device: Any) -> None:
    """Raises ``ConfigError``, naming the devices that are there, for one that is not. torch is loaded only to look for a GPU."""
    if isinstance(device, str) and device in ("auto", "cpu"):
        return
    import torch

    kind = torch.accelerator.current_accelerator()
    count = 0 if kind is None else torch.accelerator.device_count()
    there = [] if kind is None or not count else [kind.type, *(f"{kind.type}:{index}" for index in range(count))]
    if not isinstance(device, str) or device not in there:
        raise ConfigError(f"device={shown(device)} is not there: choose one of {', '.join(map(repr, ('auto', 'cpu', *there)))}")


def make_dist4d(weights: str | Path = "tiny", memory: MemoryPolicy = "log", device: str = "auto") -> World:
    """The generated world, or with ``weights="splat"`` the same as the world "splat". Raises ``WeightsError``."""
    if str(weights) == "splat":
        from dist4d_env.worlds.replay import SplatWorld

        return SplatWorld(memory)
    from dist4d_env.worlds.dist4d import GenerativeWorld

    return GenerativeWorld.from_pretrained(weights, memory=memory, device=device)


make_dist4d.needs_images = True  # type: ignore[attr-defined]  # a trait, known before the models are loaded
