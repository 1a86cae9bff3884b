"""DiST-4D as a closed-loop driving simulator: importing this package registers ``DiST4D-nuScenes-v0`` with Gymnasium."""

import contextlib

__version__ = "0.1.0"

with contextlib.suppress(ImportError):  # without Gymnasium nobody can make it either, and the doctor can say what is missing
    import gymnasium

    gymnasium.register(
        id="DiST4D-nuScenes-v0",
        entry_point="dist4d_env.envs.driving:DiST4DDrivingEnv",
        vector_entry_point="dist4d_env.envs.vector:DiST4DVectorEnv",
    )
