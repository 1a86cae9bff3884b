"""What a wrapped planner can do wrong."""

from __future__ import annotations

from dist4d_env.errors import DiST4DError


class AdaptorError(DiST4DError):
    """A wrapped planner returned something that is no trajectory, or asks for what this simulator cannot give."""
