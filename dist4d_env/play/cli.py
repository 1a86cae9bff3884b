"""``python -m dist4d_env play``: sit at the wheel, in a browser on this machine."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dist4d_env import json_output
from dist4d_env.errors import ConfigError

if TYPE_CHECKING:
    import socket

    import uvicorn
    from starlette.applications import Starlette

    from dist4d_env.data.contract import Dataset
    from dist4d_env.play.drive import Drives

MOST_PORT = 65535


@dataclass(frozen=True)
class Options:
    """Drive yourself: prints the address of a page, on this machine only, with the cameras, the map and the wheel.

    The page swaps the world under the same instant, goes back and branches, hands over to planners, puts objects in the way and
    saves drives that can be scored and driven again bit for bit. Needs `pip install 'dist4d_env[play]'`.
    """

    dataroot: Path | None = None
    """Folder of a nuScenes-format data set; else $NUSCENES, else the built-in town."""
    version: str | None = None
    """Folder of tables below it; found by itself when there is one."""
    dataset: str | None = None
    """Its reader: a registered name, or your own as module:Class; found by the folder if none is given."""
    scenes: str = "val"
    """A split or a scene's name: what the page offers (of a data set without such a split, everything)."""
    start: float = 0.0
    """Seconds since the scene's first keyframe."""
    world: str = "dist4d"
    """What makes the pictures at first: dist4d, splat, replay, oracle (town only), or your own as module:Class."""
    weights: str = "tiny"
    """Of the world dist4d: a shipped preset, or a folder."""
    memory: Literal["log", "history"] = "log"
    """What the world may remember: "log", every recorded frame, or "history", those before the start."""
    size: str | None = None
    """Height x width of the camera images, such as 224x400; else the world's own, 64x112 for the shipped weights."""
    traffic: str = "idm"
    """Traffic that reacts on logged paths (idm) or by rules of lanes (lanes), as logged (replay), or your own as module:Class."""
    device: str = "auto"
    """torch device of the models."""
    seed: int = 0
    """The same seed and the same driving make the same episode, bit for bit."""
    port: int = 8112
    """On 127.0.0.1; 0 takes any free one."""
    out: Path = Path("drives")
    """Folder for saved drives."""
    allow: tuple[str, ...] = ()
    """Of --again: the worlds, traffic and readers, as module:Class, that the saved drive may name, beside those of --world,
    --traffic and --dataset."""
    again: Path | None = None
    """Serve nothing: drive a saved drive again, compare every instant and picture with it, and make its video anew."""


def run(options: Options) -> int:
    """Serves until it is stopped."""
    if options.again is not None:
        return drive_again(options.again, (*options.allow, options.world, options.traffic, options.dataset))
    check_packages()
    listening = listen(options.port)  # first of all: a port that is taken shows at once
    try:
        return serve(options, listening)
    finally:
        listening.close()


def serve(options: Options, listening: socket.socket) -> int:
    """Prints the address and serves."""
    import secrets

    import uvicorn

    from dist4d_env.play.server import application

    drives, token = make_drives(options), secrets.token_urlsafe(16)
    address = f"http://127.0.0.1:{listening.getsockname()[1]}/{token}/"
    print(f"drive at {address} (Ctrl-C ends)", flush=True)
    json_output.result({"address": address})
    uvicorn.Server(server_config(application(drives, token))).run(sockets=[listening])
    return 0


def server_config(application: Starlette) -> uvicorn.Config:
    """How the application is served: quietly, pictures as they are."""
    import uvicorn

    return uvicorn.Config(
        application,
        log_level="error",
        ws="websockets-sansio",
        ws_max_size=65536,
        ws_per_message_deflate=False,
        ws_ping_interval=None,  # on one machine a connection ends by being closed; who is slow to read stays
        lifespan="off",
        server_header=False,
        timeout_graceful_shutdown=2,
    )


def check_packages() -> None:
    """Raises ConfigError where the extra is not installed."""
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
        import websockets  # noqa: F401
    except ImportError as error:
        raise ConfigError(f"play needs a web server ({error}): pip install 'dist4d_env[play]'") from error


def listen(port: int) -> socket.socket:
    """A socket that listens on this machine alone. Raises ConfigError for a port that cannot be had."""
    import socket

    if not 0 <= port <= MOST_PORT:
        raise ConfigError(f"port={port} must be a whole number from 0 (any free one) to {MOST_PORT}")
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(("127.0.0.1", port))
        listening.listen(64)
    except OSError as error:
        listening.close()
        raise ConfigError(f"port={port} cannot be had ({error.strerror}): choose another, or 0 for any free one") from error
    return listening


def make_drives(options: Options) -> Drives:
    """What the server's drives share. Raises ConfigError, DataError or WeightsError for what no drive could begin with, and
    OSError for a folder that no drive could be saved in."""
    from dist4d_env.demo import check_weights, ensure_depth
    from dist4d_env.envs.config import read_seed
    from dist4d_env.geometry.cameras import optional_size
    from dist4d_env.play.drive import Drives
    from dist4d_env.play.session import Session, Settings
    from dist4d_env.play.worlds import Look, Worlds
    from dist4d_env.scenes.files import check_writable
    from dist4d_env.scenes.scenario import Scenario

    read_seed(options.seed)
    check_weights(options.world, options.weights)
    check_writable(options.out)
    worlds, look = Worlds(options.weights, options.device), Look(options.world, options.memory)
    size = worlds.size(look, optional_size(options.size))
    dataset = open_data(options, size)
    names = scene_names(dataset, options.scenes)
    first = Scenario(names[0], options.start, traffic=options.traffic)
    if first.start >= (duration := dataset.load(names[0]).duration):
        raise ConfigError(f"start={first.start:g} s lies outside {names[0]}, which lasts {duration:.1f} s")
    if worlds.traits(look).needs_images:
        ensure_depth(dataset, names[0])
    common: dict[str, Any] = {"traffic": options.traffic, "dataset": options.dataset, "seed": options.seed}
    settings = Settings(str(dataset.dataroot), dataset.version, tuple(names), look, size, **common)
    return Drives(lambda: Session(settings, worlds), worlds, names, options.out, options.start)


def open_data(options: Options, size: tuple[int, int]) -> Dataset:
    """The data set asked for."""
    from dist4d_env.data.open import open_dataset

    return open_dataset(options.dataroot, options.version, options.scenes, options.dataset, size)


def scene_names(dataset: Dataset, wanted: str) -> list[str]:
    """The scenes of a split, or one by its name; all where the data set does not have the default split."""
    if wanted == Options.scenes and not dataset.splits().get(wanted):
        return list(dataset.names())
    return list(dataset.scene_names(wanted))


def drive_again(folder: Path, allow: Collection[Any] = ()) -> int:
    """Drives a saved drive again; says so where every bit is as recorded. allow: as in ``Recording.read``."""
    from dist4d_env.play.recording import VIDEO, Recording, film
    from dist4d_env.progress import Progress

    recording = Recording.read(folder, allow)
    pictures = sum(tick.shown is not None for tick in recording.ticks)
    with Progress("driving again", "tick", len(recording.ticks)) as progress:
        film(folder, progress=lambda done, total: progress.update(), allow=allow)
    print(f"{len(recording.ticks)} instants and {pictures} pictures are as recorded, bit for bit\nvideo: {folder / VIDEO}")
    json_output.result({"instants": len(recording.ticks), "pictures": pictures, "video": folder / VIDEO})
    return 0
