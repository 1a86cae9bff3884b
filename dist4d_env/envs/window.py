"""A window for ``render_mode="human"``, by tkinter: it needs a display and nothing that pip installs."""

from __future__ import annotations

import os
import sys

import numpy as np

from dist4d_env.errors import ConfigError


def has_display() -> bool:
    """Whether a window can be opened here."""
    return sys.platform in ("win32", "darwin") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def require_display() -> None:
    """Raise ConfigError where no window can be opened."""
    if not has_display():
        raise ConfigError("render_mode='human' needs a display and there is none here: use 'rgb_array', or set DISPLAY")


class Window:
    """Shows (H, W, 3) uint8 pictures; closing it with the mouse ends the showing, not the episode."""

    def __init__(self, title: str) -> None:
        require_display()
        try:
            import tkinter
        except ImportError as error:
            raise ConfigError(f"render_mode='human' needs tkinter ({error}): install it, or use 'rgb_array'") from error
        try:
            self._root = tkinter.Tk()
        except tkinter.TclError as error:
            raise ConfigError(f"render_mode='human' cannot open a window ({error}): use render_mode='rgb_array'") from error
        self._root.title(title)
        self._label = tkinter.Label(self._root, borderwidth=0)
        self._label.pack()
        self._open = True
        self._root.protocol("WM_DELETE_WINDOW", self.close)

    def show(self, picture: np.ndarray) -> None:
        """Draw one picture and let the window answer its events."""
        from PIL import Image, ImageTk

        if self._open:
            self._photo = ImageTk.PhotoImage(Image.fromarray(picture), master=self._root)
            self._label.configure(image=self._photo)
            self._root.update()

    def close(self) -> None:
        """Close the window; safe to repeat."""
        if self._open:
            self._open = False
            self._root.destroy()
