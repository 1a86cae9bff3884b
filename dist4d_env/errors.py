"""Exceptions a user meets: each names the thing that is wrong and what to do about it."""

from __future__ import annotations


class DiST4DError(Exception):
    """Base class of every error that bad input can cause."""


class DataError(DiST4DError):
    """A data set, scene, table, image, map or depth file is missing or broken."""


class ConfigError(DiST4DError, ValueError):
    """A keyword, scenario or command-line option has a value that cannot work."""


class WeightsError(DiST4DError):
    """Model weights are missing, unreadable or of another shape."""


class ActionError(DiST4DError, ValueError):
    """An action has the wrong shape, is not finite or lies outside its space."""
