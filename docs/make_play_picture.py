"""Makes pictures/play.jpg, the page of play in a headless Chromium: ``python -m docs.make_play_picture [--size 224x400]``."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import tyro
from PIL import Image

from tests.play.browser import Browser

PICTURE = Path(__file__).parent / "pictures" / "play.jpg"
TICKS = 30


@dataclass(frozen=True)
class Options:
    """Make the picture of docs/play.md."""

    size: str = "224x400"
    """Height x width of the cameras."""
    scene: str = "town-val-0000"
    """A scene of the built-in town."""


def main(options: Options) -> None:
    """A planner drives three seconds; then the screenshot."""
    command = [sys.executable, "-m", "dist4d_env", "play", "--port", "0", "--scenes", options.scene, "--size", options.size]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    address = re.search(r"http://\S+", server.stdout.readline())
    assert address is not None, "the server did not start"
    with tempfile.TemporaryDirectory() as folder:
        browser = Browser(Path(folder))
        try:
            browser.open(address[0], 1440, 900)
            browser.wait("header && header.tick === 0")
            browser.run("say('pace', { pace: 0 }), act.hand(), act.run()")
            for tick in range(5, TICKS + 1, 5):
                browser.wait(f"header.tick >= {tick}")
            browser.run("say('run', { on: false }), say('planner', { name: '' })")
            browser.wait("!state.running && header.tick === state.tick")
            picture = Image.open(io.BytesIO(browser.picture())).convert("RGB")
            picture.save(PICTURE, quality=86, optimize=True)
        finally:
            browser.close()
            server.terminate()


if __name__ == "__main__":
    main(tyro.cli(Options))
