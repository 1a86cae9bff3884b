"""Makes pictures/demo.webp, the moving picture of README.md, from the video that the demo has written:

make demo
python docs/make_moving_picture.py
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import av
import tyro
from PIL import Image

MOST = 3_000_000
"""Bytes that a moving picture may have: it is loaded by everyone who looks at the page."""


@dataclass(frozen=True)
class Options:
    """Make the moving picture of the demo."""

    video: Path = Path("demo/episode.mp4")
    """What `python -m dist4d_env demo` has written."""
    out: Path = Path(__file__).parent / "pictures" / "demo.webp"
    """The picture."""
    width: int = 1000
    """Pixels."""
    every: int = 2
    """Of so many frames of the video one is shown, as long as they last."""
    quality: int = 70
    """Of WebP, 0 to 100."""


def main(options: Options) -> None:
    """Raises SystemExit where there is no video, or where the picture would be too large."""
    if not options.video.exists():
        raise SystemExit(f"{options.video} is not there: run make demo first")
    with av.open(str(options.video)) as video:
        rate = float(video.streams.video[0].average_rate or 10)
        frames = [frame.to_image() for k, frame in enumerate(video.decode(video=0)) if k % options.every == 0]
    height = round(frames[0].height * options.width / frames[0].width)
    frames = [frame.resize((options.width, height), Image.Resampling.LANCZOS) for frame in frames]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    frames[0].save(
        options.out, save_all=True, append_images=frames[1:], duration=round(1000 * options.every / rate), loop=0,
        quality=options.quality, method=4,
    )  # fmt: skip
    size = options.out.stat().st_size
    print(f"{options.out}: {len(frames)} frames of {options.width} x {height}, {size / 1e6:.2f} MB")
    if size > MOST:
        options.out.unlink()
        raise SystemExit(f"more than {MOST / 1e6:g} MB: ask for a lower --quality or --width, or a higher --every")


if __name__ == "__main__":
    main(tyro.cli(Options))
