"""A planner in its own process: keeps the speed and follows the route. Replace ``plan`` by your model.

python examples/planner_server.py &
dist4d evaluate --planner dist4d_env.planners.remote:RemotePlanner
"""

from typing import Any

import numpy as np

from dist4d_env.planners.remote.planner_server import serve  # or copy that file beside this one: from planner_server import serve


def plan(inputs: dict[str, Any]) -> np.ndarray:
    """(8, 3) x, y, heading every 0.5 s; inputs: images, lidar2img, can_bus, command, ... of docs/planners.md."""
    route = np.concatenate([np.zeros((1, 2)), inputs["route"]])
    metres = np.linspace(0, 50, len(route))
    ahead = np.minimum(0.5 * inputs["ego"][3] * np.arange(1, 9), 50)
    x, y = (np.interp(ahead, metres, column) for column in route.T)
    return np.column_stack([x, y, np.arctan2(np.gradient(y), np.maximum(np.gradient(x), 1e-3))])


serve(plan, cameras=False)
