"""The client: a planner whose plans come from another process on this machine."""

from __future__ import annotations

import http.client
import json
import math
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from dist4d_env.errors import ConfigError, DiST4DError
from dist4d_env.planners.contract import PLAN_LIMIT, RESET_LIMIT, Plan, PlannerContext, PlannerInput, PlannerNeeds
from dist4d_env.planners.remote.inputs import remote_inputs
from dist4d_env.planners.remote.planner_server import MAX_REQUEST, PORT, PROTOCOL, one_line, pack, unpack

LOOPBACK = ("127.0.0.1", "localhost", "::1")


class RemoteError(DiST4DError):
    """The planner's server is gone, too slow, of another version, or its answer is no plan."""


@dataclass(frozen=True)
class RemoteConfig:
    """url: http on the loopback, None for $DIST4D_PLANNER_URL, else port 8004; wait: s for the server to come up (models take
    long to load); reset_limit, plan_limit: s for an answer; max_answer: bytes of one."""

    url: str | None = None
    wait: float = 10.0
    reset_limit: float = RESET_LIMIT
    plan_limit: float = PLAN_LIMIT
    max_answer: int = 2**20

    def __post_init__(self) -> None:
        url = self.url or os.environ.get("DIST4D_PLANNER_URL") or f"http://127.0.0.1:{PORT}"
        try:
            parts = urlsplit(url)
            local = parts.scheme == "http" and parts.hostname in LOOPBACK and parts.path in ("", "/") and parts.port != 0
        except (ValueError, AttributeError, TypeError):  # a port of 99999, an open bracket, no text at all
            local = False
        if not local:
            raise ConfigError(
                f"planner url {url!r:.200}: a remote planner is reached on the loopback, such as http://127.0.0.1:{PORT}"
            )
        if not (min(self.reset_limit, self.plan_limit, self.max_answer) > 0 and 0 <= self.wait):
            raise ConfigError("reset_limit, plan_limit and max_answer must be above zero, wait at least zero")
        object.__setattr__(self, "url", url.rstrip("/"))


class RemotePlanner:
    """Plans come from the server at ``config.url``; ``requires`` is what it declares. Making one waits for the server.

    Raises RemoteError in one sentence: the server is absent, gone or too slow, speaks another version, a message is too large or
    malformed, or its planner raised (the sentence is the planner's).
    """

    def __init__(self, config: RemoteConfig | None = None) -> None:
        self.config = config or RemoteConfig()
        parts = urlsplit(str(self.config.url))
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or PORT
        self._client, self._episode = uuid.uuid4().hex, ""
        hello = self._hello()
        self.name = one_line(hello.get("name", "remote"))
        self.requires = _needs(hello, self.config.url)

    def reset(self, context: PlannerContext, seed: int) -> None:
        self._scene, self._step = context.scene, 0
        self._position: float | None = None
        self._episode = uuid.uuid4().hex
        episode = {"scene": context.scene.name, "seed": seed, "decision_dt": context.decision_dt, "horizon": context.horizon}
        self._post("/reset", episode, self.config.reset_limit)

    def plan(self, observation: PlannerInput) -> Plan:
        ego = observation.ego
        position = self._scene.route.project(ego.x, ego.y, self._position)[0]
        inputs = remote_inputs(observation, self._scene, position, self._step)
        self._position = position
        self._step += 1
        return self._plan_of(self._post("/plan", inputs, self.config.plan_limit))

    def _plan_of(self, answer: dict[str, np.ndarray]) -> Plan:
        """An answer as a plan. Raises RemoteError for what is none."""
        trajectory, dt = answer.get("trajectory"), answer.get("dt")
        if trajectory is None or dt is None or trajectory.ndim != 2 or trajectory.shape[1] != 3 or dt.shape != ():
            shapes = one_line({name: array.shape for name, array in answer.items()})
            raise RemoteError(f"the planner at {self.config.url} answered {shapes}: a plan is a trajectory (N, 3) and a dt")
        if trajectory.dtype.kind not in "iuf" or dt.dtype.kind not in "iuf":
            raise RemoteError(f"the planner at {self.config.url} answered a plan of {trajectory.dtype} with dt of {dt.dtype}")
        plan = Plan(trajectory.astype(float), float(dt))
        if not np.isfinite(plan.trajectory).all() or not 0 < plan.dt < math.inf:
            raise RemoteError(f"the planner at {self.config.url} answered a plan that is not finite (dt {plan.dt:g})")
        return plan

    def _hello(self) -> dict[str, Any]:
        """The handshake, once the server is there."""
        until = time.monotonic() + self.config.wait
        while True:
            try:
                status, body = self._exchange("GET", "/hello", b"", 10.0)
                break
            except ConnectionRefusedError:
                if time.monotonic() > until:
                    sentence = f"no planner listens at {self.config.url}: start its server, or set DIST4D_PLANNER_URL"
                    raise RemoteError(sentence) from None
                time.sleep(0.1)
        try:
            hello = json.loads(body) if status == 200 else None
        except (ValueError, RecursionError):
            hello = None
        if status == 426 or (isinstance(hello, dict) and hello.get("protocol") != PROTOCOL):
            other = one_line(body[:200].decode(errors="replace") if hello is None else f"it says {hello.get('protocol')!r:.200}")
            raise RemoteError(f"the server at {self.config.url} does not speak protocol {PROTOCOL} ({other}): update one side")
        if not isinstance(hello, dict):
            raise RemoteError(f"what listens at {self.config.url} is no planner server: it answered {status} {body[:80]!r}")
        return hello

    def _post(self, path: str, arrays: dict[str, Any], limit: float) -> dict[str, np.ndarray]:
        body = pack(arrays)
        if len(body) > MAX_REQUEST:
            raise RemoteError(f"a request of {len(body)} bytes, at most {MAX_REQUEST} may be sent: make smaller pictures")
        try:
            status, answer = self._exchange("POST", path, body, limit)
        except ConnectionRefusedError:
            raise RemoteError(f"the planner at {self.config.url} is gone: nothing listens there any more") from None
        if status != 200:
            said = one_line(answer[:500].decode(errors="replace"))
            raise RemoteError(f"the planner at {self.config.url} refused ({status}): {said}")
        try:
            return unpack(answer, self.config.max_answer)
        except ValueError as error:
            raise RemoteError(f"the planner at {self.config.url} answered something malformed: {error}") from None

    def _exchange(self, method: str, path: str, body: bytes, limit: float) -> tuple[int, bytes]:
        """Status and body of one request over a connection of its own, all within ``limit`` seconds."""
        connection, late = http.client.HTTPConnection(self._host, self._port, timeout=limit), threading.Event()
        headers = {"Dist4d-Protocol": PROTOCOL, "Dist4d-Client": self._client, "Dist4d-Episode": self._episode}
        try:
            connection.connect()
            with _deadline(connection.sock, limit, late):
                connection.request(
                    method, path, body if method == "POST" else None, {**headers, "Content-Type": "application/x-npz"}
                )
                response = connection.getresponse()
                answer = response.status, self._read(response)
            if late.is_set():  # what a connection that is shut down gives looks like an end
                raise TimeoutError
            return answer
        except ConnectionRefusedError:
            raise
        except (OSError, http.client.HTTPException, ValueError) as error:
            if late.is_set() or isinstance(error, TimeoutError):
                raise RemoteError(f"the planner at {self.config.url} is late: no answer to {path} within {limit:g} s") from None
            reason = one_line(f"{type(error).__name__}: {error}")
            raise RemoteError(f"the planner at {self.config.url} broke off in the middle of {path} ({reason})") from error
        finally:
            connection.close()

    def _read(self, response: http.client.HTTPResponse) -> bytes:
        """The body, at most ``max_answer`` bytes of it."""
        body = response.read(self.config.max_answer + 1)
        if len(body) > self.config.max_answer:
            raise RemoteError(f"the planner at {self.config.url} answered more than {self.config.max_answer} bytes")
        if response.length:
            raise http.client.IncompleteRead(b"", response.length)
        return body


@contextmanager
def _deadline(link: socket.socket, limit: float, late: threading.Event) -> Iterator[None]:
    """Ends a connection after ``limit`` seconds; a socket's own timeout begins anew with every byte."""

    def end() -> None:
        late.set()
        with suppress(OSError):
            link.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(limit, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _needs(hello: dict[str, Any], url: str | None) -> PlannerNeeds:
    needs = hello.get("needs")
    if not isinstance(needs, dict) or not isinstance(needs.get("cameras"), bool):
        raise RemoteError(one_line(f"the server at {url} does not declare whether it needs cameras: {needs!r}"))
    unknown = sorted(name for name, wanted in needs.items() if name not in ("cameras", "lidar") and wanted)
    if unknown:
        raise RemoteError(f"the server at {url} needs {', '.join(unknown):.200}, which is not sent to other processes")
    return PlannerNeeds(cameras=needs["cameras"], lidar=bool(needs.get("lidar", False)))
