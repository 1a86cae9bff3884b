"""Worlds by name."""

from __future__ import annotations

from pathlib import Path

from dist4d_env.errors import ConfigError
from dist4d_env.worlds.contract import World
from dist4d_env.worlds.memory import MemoryPolicy

WORLDS = ("dist4d", "replay", "oracle", "none")


def make_world(
    name: str,
    *,
    weights: str | Path = "tiny",
    memory: MemoryPolicy = "log",
    device: str = "auto",
    service: str | None = None,
) -> World:
    """A world by name: "dist4d" | "replay" | "oracle" | "none".

    weights: of "dist4d": a shipped preset, a folder written by ``save_pretrained``, or "splat" (no model: the memory's splat with
    its holes filled); memory: "log" | "history", what "dist4d" and "replay" may remember; device: "auto" takes a GPU where there
    is one; service: the name of a world service (``worlds.service.actors``) on a Ray cluster that shows this world in place of
    this process. Raises ``ConfigError`` for an unknown name and ``WeightsError`` for weights that cannot be loaded.
    """
    if memory not in ("log", "history"):
        raise ConfigError(f'memory must be "log" or "history", not {memory!r}')
    if service is not None:
        from dist4d_env.worlds.service.actors import Served
        from dist4d_env.worlds.service.client import RemoteWorld

        return RemoteWorld(service, Served(name, str(weights), memory))
    if name == "none":
        from dist4d_env.worlds.none import NoneWorld

        return NoneWorld()
    if name == "replay":
        from dist4d_env.worlds.replay import ReplayWorld

        return ReplayWorld(memory)
    if name == "oracle":
        from dist4d_env.worlds.oracle import OracleWorld

        return OracleWorld()
    if name == "dist4d":
        if str(weights) == "splat":
            from dist4d_env.worlds.replay import ReplayWorld

            return ReplayWorld(memory, source="splat")
        from dist4d_env.worlds.dist4d import GenerativeWorld

        return GenerativeWorld.from_pretrained(weights, memory=memory, device=device)
    raise ConfigError(f"unknown world {name!r}: choose one of {', '.join(WORLDS)}")
