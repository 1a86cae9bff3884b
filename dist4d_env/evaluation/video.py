"""H.264 video by PyAV; plays in every browser."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from dist4d_env.errors import ConfigError
from dist4d_env.scenes.files import replacing


class VideoWriter:
    """``with VideoWriter(path, fps) as video: video.add(frame)``: the .mp4 appears whole, when the block ends well.

    Frames are RGB (H, W, 3) uint8 of one even size. quality: x264's constant rate factor, lower is better.
    """

    def __init__(self, path: Path, fps: float, quality: int = 20) -> None:
        self.path, self.fps, self.quality = path, fps, quality
        self.count = 0
        self._place = replacing(path)
        self._container: Any = None
        self._stream: Any = None

    def __enter__(self) -> VideoWriter:
        import av

        # faststart: the index comes first, so that a browser can play before it has everything.
        self._container = av.open(str(self._place.__enter__()), "w", format="mp4", options={"movflags": "+faststart"})
        return self

    def add(self, frame: np.ndarray) -> None:
        """Appends a frame. Raises ConfigError for what no H.264 stream can take."""
        import av

        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or frame.shape[0] % 2 or frame.shape[1] % 2:
            raise ConfigError(f"a video frame is (H, W, 3) uint8 with even H and W, not {frame.dtype} {frame.shape}")
        if self._stream is None:
            self._stream = self._container.add_stream("libx264", rate=Fraction(self.fps).limit_denominator(1000))
            self._stream.height, self._stream.width = frame.shape[:2]
            self._stream.pix_fmt = "yuv420p"
            # One thread: the same frames give the same file on every machine.
            self._stream.options = {"crf": str(self.quality), "preset": "medium", "threads": "1"}
        if (self._stream.height, self._stream.width) != frame.shape[:2]:
            raise ConfigError(f"video frames of two sizes: {self._stream.height} x {self._stream.width} and {frame.shape[:2]}")
        self._container.mux(self._stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        self.count += 1

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        try:
            if kind is None and self._stream is None:
                raise ConfigError(f"{self.path}: a video needs at least one frame")
            if kind is None:
                self._container.mux(self._stream.encode())
            self._container.close()
        except BaseException as failure:
            self._place.__exit__(type(failure), failure, None)
            raise
        self._place.__exit__(kind, error, trace)


def write_video(path: Path, frames: Iterable[np.ndarray], fps: float, quality: int = 20) -> int:
    """Writes frames to an .mp4 (see ``VideoWriter``) and returns their number."""
    with VideoWriter(path, fps, quality) as video:
        for frame in frames:
            video.add(frame)
    return video.count
