"""A planner in another process, over HTTP on the loopback: for models that need a Python environment of their own.

``RemotePlanner`` is the client and a planner like any other. ``planner_server.py`` is all that the other side needs: one file
that needs numpy alone and runs from Python 3.8 on. They exchange npz files, never pickles.
"""

from dist4d_env.planners.remote.client import RemoteConfig, RemoteError, RemotePlanner
from dist4d_env.planners.remote.inputs import remote_inputs

__all__ = ["RemoteConfig", "RemoteError", "RemotePlanner", "remote_inputs"]
