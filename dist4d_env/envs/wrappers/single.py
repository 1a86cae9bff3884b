"""Observation wrappers for single environments."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
from gymnasium.utils import RecordConstructorArgs

from dist4d_env.envs.wrappers.transforms import BirdsEye, CameraStack, Flat, Vectors


class _Transformed(gym.ObservationWrapper, RecordConstructorArgs):
    """An environment whose observations go through a transform."""

    def __init__(self, env: gym.Env, transform: Any, **settings: Any) -> None:
        RecordConstructorArgs.__init__(self, **settings)
        gym.ObservationWrapper.__init__(self, env)
        self._transform = transform
        self.observation_space = transform.space(env.observation_space)

    def observation(self, observation: Any) -> Any:
        return self._transform(observation)


class StackCameras(_Transformed):
    """The cameras as images that learning libraries take as they are.

    layout: "mosaic" is one ``"cameras"`` image, (2H, 3W, 3) for nuScenes' six: cameras that look ahead above, those that look
    back below, from the car's left to its right; "channels" one stack (3V, H, W), three channels a camera in the rig's order;
    "dict" keeps one (H, W, 3) key per camera. depth: "none" leaves depth out; "log8" adds it as uint8 on a logarithmic scale
    (``transforms.log8``) in the same layout with one channel a camera, as ``"depth"`` or ``"CAM_FRONT/depth"`` and so on. Other
    keys stay. Raises ConfigError for an unknown option or an environment without these pictures.
    """

    def __init__(self, env: gym.Env, layout: str = "mosaic", depth: str = "none") -> None:
        rig = env.unwrapped.rig  # type: ignore[attr-defined]
        super().__init__(env, CameraStack(rig, layout, depth), layout=layout, depth=depth)


class BirdsEyeView(_Transformed):
    """The bird's-eye raster alone: a ``Box`` (12, cells, cells) uint8, channels as in ``"bev"``.

    cells: 200 cells of 0.5 m a side, or a divisor for larger ones, each as bright as the brightest it covers. The environment
    needs "bev" in its observation (ConfigError).
    """

    def __init__(self, env: gym.Env, cells: int = 100) -> None:
        super().__init__(env, BirdsEye(cells), cells=cells)


class VectorOnly(_Transformed):
    """ "ego", "route" and "agents", as far as they are observed, in one flat float32 ``Box``; pictures are left out.

    agents: how many of the nearest are kept. Values keep their units and bounds (``gymnasium.wrappers.RescaleObservation`` scales
    them). Raises ConfigError where none of the three is observed.
    """

    def __init__(self, env: gym.Env, agents: int = 16) -> None:
        super().__init__(env, Vectors(agents), agents=agents)


class FlatVectors(_Transformed):
    """ "route" and "agents" as flat vectors, row after row; other keys stay. Stable-Baselines3 then has nothing to remark on."""

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env, Flat())
