"""A session on the small test town, and a server of it in this process."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dist4d_env.play.cli import Options, listen, make_drives
from dist4d_env.play.drive import Drives
from dist4d_env.play.session import Session

TOKEN = "a-token-for-tests"


@pytest.fixture(scope="session")
def drives(town_dataroot: Path, tmp_path_factory: pytest.TempPathFactory) -> Drives:
    """What drives share: the test town, at first without any model."""
    out = tmp_path_factory.mktemp("drives")
    return make_drives(Options(dataroot=town_dataroot, world="splat", out=out))


@pytest.fixture
def session(drives: Drives) -> Iterator[Session]:
    """A drive at its start."""
    made = drives.make()
    made.begin("town-val-0000")
    yield made
    made.close()


@pytest.fixture(scope="session")
def server(drives: Drives) -> Iterator[str]:
    """The address of a server, without its scheme."""
    import uvicorn

    from dist4d_env.play.cli import server_config
    from dist4d_env.play.server import application

    listening = listen(0)
    running = uvicorn.Server(server_config(application(drives, TOKEN)))
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    while not running.started:
        time.sleep(0.01)
    yield f"127.0.0.1:{listening.getsockname()[1]}"
    running.should_exit = True
    thread.join(30)
    listening.close()
