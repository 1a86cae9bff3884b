"""Wrappers, each one behaviour, for ``gym.make``; those for ``gym.make_vec`` have the same names in ``wrappers.vector``."""

from dist4d_env.envs.wrappers.actions import ActionRepeat, DiscreteControls
from dist4d_env.envs.wrappers.history import FrameHistory
from dist4d_env.envs.wrappers.info import UniformInfo
from dist4d_env.envs.wrappers.single import BirdsEyeView, FlatVectors, StackCameras, VectorOnly

__all__ = [
    "ActionRepeat",
    "BirdsEyeView",
    "DiscreteControls",
    "FlatVectors",
    "FrameHistory",
    "StackCameras",
    "UniformInfo",
    "VectorOnly",
]
