"""The world service: Ray actors that hold the models and show the world to many environments, wherever those run.

    import ray
    from dist4d_env.worlds.service.actors import serve_world

    ray.init(address="auto")
    service = serve_world("world", weights="tiny", actors=2, num_gpus=1)       # on the machines with GPUs
    gym.make("DiST4D-nuScenes-v0", world="dist4d", service="world")            # anywhere on the cluster, also in env runners

States stay where the environments are; an actor only remembers those it has seen lately. So an actor that dies and is started
again goes on with every episode from the state that its environment hands it, bit for bit.
"""

from __future__ import annotations

import itertools
import os
import time
import uuid
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from dist4d_env.errors import ConfigError
from dist4d_env.geometry.lidar import LidarPattern
from dist4d_env.geometry.rgbd import RGBDFrame, array_bytes
from dist4d_env.geometry.splat_source import SplatSource
from dist4d_env.registry import WORLDS
from dist4d_env.simulation.scene_at import SceneAt
from dist4d_env.worlds.chunk import Chunk
from dist4d_env.worlds.contract import World, WorldInfo, WorldStart, WorldTraits, world_traits
from dist4d_env.worlds.memory import MemoryPolicy
from dist4d_env.worlds.service.batching import Batcher, Batching, Busy, Expired
from dist4d_env.worlds.service.state_parts import Loaded, Packed, pack, unpack

NAMESPACE = "dist4d_env"
"""Ray namespace of the actors."""


@dataclass(frozen=True)
class Served:
    """The world that a service holds; keywords as those of ``make_world``. Raises ConfigError for one that cannot be served."""

    world: str = "dist4d"
    weights: str = "tiny"
    memory: MemoryPolicy = "log"
    device: str = "auto"

    def __post_init__(self) -> None:
        if not isinstance(self.world, str):
            raise ConfigError(
                f"a world service makes its world in processes of its own and cannot take the object {self.world!r}: "
                "give a name or 'module:Class', and what to configure as 'module:function'"
            )
        WORLDS.check(self.world)
        if self.world == "splat":  # two spellings of the same world
            object.__setattr__(self, "world", "dist4d")
            object.__setattr__(self, "weights", "splat")

    def make(self, device: str | None = None) -> World:
        """The world, on ``device`` in place of the one it is served on."""
        keywords = {"weights": self.weights, "memory": self.memory, "device": device or self.device}
        world: World = WORLDS.make(self.world, ("reset", "step"), **keywords)
        return world


@dataclass(frozen=True)
class StepRequest:
    """One step of one episode, or the LiDAR points of its state where there is a pattern. key: of the state; state: in full, None
    where the actor should know it; scene: what is true."""

    key: str
    state: Packed | None
    scene: SceneAt
    pattern: LidarPattern | None = None


@dataclass(frozen=True)
class StepReply:
    """key: of the new state; state: its root and its new parts; shown: the frame, which is one of the parts; ``None`` for a world
    without pictures."""

    key: str
    state: Packed
    shown: str | None
    info: WorldInfo


@dataclass(frozen=True)
class LidarReply:
    """values: (P, 4) as of ``worlds.contract.MeasuresLidar``."""

    values: np.ndarray


@dataclass(frozen=True)
class StateUnknown:
    """The actor does not have the state (any more): send the request again with the state in full."""


@dataclass(frozen=True)
class Rejected:
    """The actor's queue is full, or the answer came too late: ask again later."""


@dataclass(frozen=True)
class Description:
    """What an actor holds. life: another one after a restart."""

    served: Served
    actors: int
    traits: WorldTraits
    life: str
    pid: int


class WorldActor:
    """One process of a service: a world, the states it has seen lately, and a queue."""

    def __init__(self, served: Served, batching: Batching, actors: int, threads: int, kept: float) -> None:
        self._served, self._actors, self._kept = served, actors, kept
        self._world = served.make()
        self._life, numbers = uuid.uuid4().hex[:12], itertools.count()
        self._new_key = lambda: f"{self._life}-{next(numbers)}"
        self._states: OrderedDict[str, Loaded] = OrderedDict()
        self._unknown, self._megabytes = 0, 0.0
        self._threads = ThreadPoolExecutor(threads, "state") if threads > 1 else None
        self._batcher = Batcher(self._answer, batching)
        self._since = time.monotonic()

    async def describe(self) -> Description:
        """What is served here."""
        return Description(self._served, self._actors, world_traits(self._world), self._life, os.getpid())

    async def step(
        self, requests: Sequence[StepRequest], timeout: float
    ) -> list[StepReply | LidarReply | StateUnknown | Rejected | Exception] | Rejected:
        """Answers in order; exceptions of the world are answers, for they concern one episode only.

        timeout: seconds after which the caller does not wait any more.
        """
        try:
            answers = await self._batcher.ask(requests, timeout)
        except Busy:
            return Rejected()
        return [Rejected() if isinstance(answer, Expired) else answer for answer in answers]

    async def stats(self) -> dict[str, Any]:
        """Counts since the actor began: seconds ``up`` and of ``cpu``, ``batches`` by size, requests ``rejected``, ``expired``
        and about ``unknown`` states, seconds ``waited`` (over requests) and ``worked``, and what is kept: ``states`` and their
        ``megabytes``."""
        counts = vars(self._batcher.counts) | {"batches": dict(sorted(self._batcher.counts.batches.items()))}
        up, cpu = time.monotonic() - self._since, time.process_time()
        about = {"life": self._life, "pid": os.getpid(), "up": up, "cpu": cpu, "unknown": self._unknown}
        return about | counts | {"states": len(self._states), "megabytes": self._megabytes}

    def _answer(self, requests: Sequence[StepRequest]) -> list[StepReply | LidarReply | StateUnknown | Exception]:
        """One batch. Runs in the batcher's thread, the only one that touches the states."""
        answers: list[Any] = [self._state(request) for request in requests]
        loaded_at = [index for index, answer in enumerate(answers) if isinstance(answer, Loaded)]
        known = [index for index in loaded_at if requests[index].pattern is None]
        for index in loaded_at:
            if requests[index].pattern is not None:
                answers[index] = self._measure(answers[index].value, requests[index])
        loaded = [answers[index] for index in known]
        scenes = [requests[index].scene for index in known]
        for index, before, shown in zip(known, loaded, self._step([each.value for each in loaded], scenes), strict=True):
            answers[index] = shown if isinstance(shown, Exception) else self._reply(requests[index].key, before, *shown)
        self._forget()
        return answers

    def _state(self, request: StepRequest) -> Loaded | StateUnknown | Exception:
        """The state that a request is about; where it is an episode's start, the state that it begins with."""
        loaded = self._states.get(request.key)
        if loaded is None:
            if request.state is None:
                self._unknown += 1
                return StateUnknown()
            try:
                loaded = unpack(request.state)
                begins = isinstance(loaded.value, WorldStart)
                loaded = Loaded(self._world.reset([loaded.value])[0] if begins else loaded.value[0], loaded.objects)
            except Exception as error:
                return error
            self._states[request.key] = loaded
        self._states.move_to_end(request.key)
        return loaded

    def _step(self, states: Sequence[Any], scenes: Sequence[SceneAt]) -> list[Any]:
        """The world's answers, or the exception in its place where an episode has failed."""
        if self._threads is not None and len(states) > 1:
            return list(self._threads.map(lambda state, scene: self._alone(state, scene), states, scenes))
        try:
            return list(self._world.step(states, scenes)) if states else []
        except Exception:  # of one of them; worlds are pure, so that each can be asked again
            return [self._alone(state, scene) for state, scene in zip(states, scenes, strict=True)]

    def _alone(self, state: Any, scene: SceneAt) -> Any:
        try:
            return self._world.step([state], [scene])[0]
        except Exception as error:
            return error

    def _measure(self, state: Any, request: StepRequest) -> LidarReply | Exception:
        world: Any = self._world
        try:
            return LidarReply(world.lidar([state], [request.scene], request.pattern)[0])
        except Exception as error:
            return error

    def _reply(self, key: str, before: Loaded, state: Any, frame: Any, info: WorldInfo) -> StepReply:
        """The new state, kept and packed; the frame goes with it as one of its parts, whether the state holds it or not."""
        packed, both = pack((state, frame), self._new_key, before)
        shown = next((key for key, (value, _) in both.objects.items() if value is frame), None)
        new = self._new_key()
        self._states[new] = Loaded(state, both.objects)
        return StepReply(new, packed, shown, info)

    def _forget(self) -> None:
        """Keep the states within bounds, the least recently used go first."""
        while (held := held_bytes(self._states.values())) > self._kept * 1e6 and len(self._states) > 1:
            self._states.popitem(last=False)
        self._megabytes = held / 1e6


def held_bytes(states: Iterable[Loaded]) -> int:
    """About what states hold in memory; what they share counts once."""
    values = {id(value): value for loaded in states for value, _ in loaded.objects.values()}
    return sum(_nbytes(value) for value in values.values())


def _nbytes(value: Any) -> int:
    """Of the arrays in a value of a ``SHARED`` class, not counting shared values in it."""
    if isinstance(value, SplatSource | RGBDFrame):
        return array_bytes(value)
    if isinstance(value, Chunk):
        return 2 * sum(map(array_bytes, value.splats))  # the conditions are about as large as the splats they were made from
    return 0


@dataclass(frozen=True)
class Service:
    """A running service. name: what environments call it; actors: handles of its processes."""

    name: str
    actors: tuple[Any, ...]

    def stats(self) -> list[dict[str, Any]]:
        """What each actor counts, see ``WorldActor.stats``."""
        import ray

        answers: list[dict[str, Any]] = ray.get([actor.stats.remote() for actor in self.actors])
        return answers

    def stop(self) -> None:
        """End the actors for good."""
        import ray

        for actor in self.actors:
            ray.kill(actor, no_restart=True)


def serve_world(
    name: str,
    world: str = "dist4d",
    *,
    weights: str = "tiny",
    memory: MemoryPolicy = "log",
    device: str = "auto",
    actors: int = 1,
    batching: Batching | None = None,
    threads: int = 1,
    kept: float = 2000.0,
    num_cpus: float = 1,
    num_gpus: float = 0,
    detached: bool = False,
) -> Service:
    """Start a world service on the Ray cluster that this process is connected to, and wait until its models are loaded.

    world, weights, memory, device: as for ``make_world``; actors: processes, each with models of its own; threads: states of a
    batch that an actor works on side by side; kept: megabytes of states that an actor remembers, so that they need not be sent
    again (about 50 for each episode of "dist4d"); num_cpus, num_gpus: what Ray sets aside for each actor; detached: it lives on
    when this process ends.
    Environments say ``service=name``; data sets must lie under the same path on the actors' machines. Raises ConfigError for what
    cannot be served or a name that is taken, and what ``make_world`` raises.
    """
    import ray

    served = Served(world, str(weights), memory, device)
    if min(actors, threads) < 1:
        raise ConfigError(f"actors={actors} and threads={threads} must be at least 1")
    if not ray.is_initialized():
        raise ConfigError("Ray is not running here: call ray.init() (or ray.init(address='auto') on a cluster) first")
    handles = []
    for index in range(actors):
        options = {
            "name": actor_name(name, index), "namespace": NAMESPACE, "lifetime": "detached" if detached else None,
            "max_restarts": -1, "max_concurrency": 1000, "num_cpus": num_cpus, "num_gpus": num_gpus,
        }  # fmt: skip
        try:
            actor: Any = ray.remote(WorldActor).options(**options)
            handles.append(actor.remote(served, batching or Batching(), actors, threads, kept))
        except ValueError as error:  # the name is taken
            Service(name, tuple(handles)).stop()
            raise ConfigError(f"a world service {name!r} is already running: stop it, or choose another name") from error
    service = Service(name, tuple(handles))
    try:
        ray.get([actor.describe.remote() for actor in handles])
    except ray.exceptions.ActorDiedError as error:
        service.stop()
        served.make("cpu")  # raises what it raised there, if it does here as well
        raise ConfigError(f"the world service {name!r} cannot start: {error}") from error
    return service


def actor_name(service: str, index: int) -> str:
    """The Ray name of one of a service's actors."""
    return f"world/{service}/{index}"
