"""A planner in another process: a real server plans an episode, and everything that can go wrong is said in one sentence."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import math
import os
import pickle
import socket
import subprocess
import sys
import threading
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

import dist4d_env  # noqa: F401 (registers the environment)
from dist4d_env.data.nuscenes import RING
from dist4d_env.errors import ConfigError
from dist4d_env.evaluation.episode_log import PLANNER_ERROR
from dist4d_env.evaluation.runner import RunOptions, run_episode
from dist4d_env.geometry.cameras import CameraRig
from dist4d_env.planners.contract import PlannerContext, PlannerInput
from dist4d_env.planners.remote import RemoteConfig, RemoteError, RemotePlanner, remote_inputs
from dist4d_env.planners.remote.inputs import CAMERAS, can_bus
from dist4d_env.planners.remote.planner_server import pack, unpack
from dist4d_env.simulation.ego import EgoState
from tests.simulation.road import make_scene

ROOT = Path(__file__).resolve().parents[2]
EGO = EgoState(3.0, -2.0, -math.pi / 2, 8.0, 0.5, 0.02, 0.1)
CONTEXT = PlannerContext(replace(make_scene(), rig=CameraRig((), np.zeros((0, 3, 3)), np.zeros((0, 4, 4)), 64, 128)), 0.5, 10.0)
GIVEN = PlannerInput(0.0, EGO, {})
PATIENT = {"wait": 300.0, "plan_limit": 300.0}
"""Far beyond what a busy machine takes."""

PLANNER = """
import os, sys, time
import numpy as np
from dist4d_env.planners.remote.planner_server import serve

class Echo:
    def reset(self, episode):
        self.seed = int(episode["seed"])
        if self.seed == 13:
            raise RuntimeError("weights of seed 13 are missing")
    def plan(self, inputs):
        speed = inputs["ego"][3]
        if self.seed == 1: raise ValueError("no lane")
        if self.seed == 2: return np.full((8, 3), np.nan)
        if self.seed == 3: return np.zeros((8, 2))
        if self.seed == 4: time.sleep(600)
        if self.seed == 5: os._exit(1)
        if self.seed == 6: return np.zeros((100000, 3))
        if self.seed == 7: raise type("Mute", (Exception,), {"__str__": lambda self: 1 / 0})()
        return np.column_stack([0.1 * speed * np.arange(1, 41), np.zeros(40), np.zeros(40)]), 0.1

serve(Echo(), port=0, cameras=False)
"""


SEEING = """
import os
import numpy as np
from dist4d_env.planners.remote.planner_server import serve

def plan(inputs):
    np.savez(os.environ["SEEN"], **inputs)
    return np.column_stack([2.0 * np.arange(1, 9), np.zeros(8), np.zeros(8)])

serve(plan, port=0, lidar=True)
"""


@contextlib.contextmanager
def served(*command: str, **environment: str):
    """A server process; gives the address that it prints."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    process = subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                               env=environment, cwd=ROOT)  # fmt: skip
    try:
        assert process.stdout is not None
        yield process.stdout.readline().split()[-1]
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def url():
    with served("-c", PLANNER) as address:
        yield address


@contextlib.contextmanager
def answering(*answers: bytes):
    """Something on a port that answers its first connections with these bytes, whatever it is asked."""
    listener = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        for answer in answers:
            connection, _ = listener.accept()
            with connection:
                request = connection.recv(65536)
                head = request.split(b"\r\n\r\n")[0].lower()
                length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0]) if b"content-length: " in head else 0
                while len(request) - len(head) - 4 < length:
                    request += connection.recv(65536)
                connection.sendall(answer)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.close()


def http_answer(body: bytes, status: str = "200 OK", length: int | None = None) -> bytes:
    return f"HTTP/1.0 {status}\r\nContent-Length: {len(body) if length is None else length}\r\n\r\n".encode() + body


HELLO = http_answer(json.dumps({"protocol": "1", "name": "x", "needs": {"cameras": False}}).encode())


def test_ten_line_server_drives_an_episode(town_dataroot):
    """The example as it stands, in its own process, through the environment: it follows the route as long as that is wise."""
    script = ROOT / "examples" / "planner_server.py"
    with served(str(script), DIST4D_PLANNER_PORT="0") as address:
        env = gym.make(
            "DiST4D-nuScenes-v0", dataroot=str(town_dataroot), scenes="val", world="none", action="trajectory", horizon=3.0,
            observation=("ego", "route", "agents"),
        )  # fmt: skip
        planner = RemotePlanner(RemoteConfig(address, **PATIENT))
        logs = [run_episode(env, planner, 0, RunOptions("town-val-0000", 0.0, plan_limit=600.0)) for _ in range(2)]
        env.close()
    assert logs[0].error is None and logs[0].trace.ego[-1, 3] > 0.5 and len(logs[0].steps) > 3
    assert np.array_equal(logs[0].trace.ego, logs[1].trace.ego), "one server, two episodes: the same one again"
    assert planner.name == "plan" and not planner.requires.cameras and not planner.requires.lidar


def test_what_a_model_needs_arrives_from_the_running_world(town_dataroot, tmp_path):
    """Six pictures with their calibration, ego status, CAN bus and command, as the process at the other end has them."""
    env = gym.make("DiST4D-nuScenes-v0", dataroot=str(town_dataroot), world="oracle", action="trajectory", horizon=1.0,
                   size=(32, 56), observation=("cameras", "ego", "route", "agents", "lidar"))  # fmt: skip
    shown = []

    def watch(driving, info):
        shown.append((driving.episode.state, driving.episode.frame))

    with served("-c", SEEING, SEEN=str(tmp_path / "seen.npz")) as address:
        planner = RemotePlanner(RemoteConfig(address, **PATIENT))
        assert planner.requires.cameras and planner.requires.lidar
        log = run_episode(env, planner, 0, RunOptions("town-val-0000", 0.5, plan_limit=600.0), watch)
    rig = env.unwrapped.scene.rig.at_size(32, 56)
    env.close()
    assert log.error is None and len(shown) == 3
    seen, (state, frame) = np.load(tmp_path / "seen.npz"), shown[-2]  # of the last decision
    order = [RING.index(name) for name in seen["camera_names"]]
    assert order == [RING.index(name) for name in CAMERAS] and np.array_equal(seen["images"], frame.rgb[order])
    np.testing.assert_allclose(seen["intrinsics"], rig.intrinsics[order])
    np.testing.assert_allclose(seen["ego_from_camera"], rig.ego_from_camera[order])
    ego = state.ego
    np.testing.assert_allclose(seen["ego"], [ego.x, ego.y, ego.yaw, ego.speed, ego.acceleration, ego.steering, ego.yaw_rate])
    np.testing.assert_allclose(seen["can_bus"], can_bus(ego))
    assert seen["lidar"].shape[1] == 4 and len(seen["lidar"]) > 20_000 and (seen["lidar"][:, 3] > 0).all()
    assert "observation/lidar" not in seen
    assert seen["can_bus"].shape == (18,) and int(seen["command"]) in (0, 1, 2) and int(seen["step"]) == 1
    # A point of the road, 12 m ahead: by lidar2img it lies where the front camera's own pose and intrinsics put it.
    point = np.array([12.0, 0.5, 0.0, 1.0])
    by_lidar = seen["lidar2img"][0] @ np.linalg.inv(seen["ego_from_lidar"]) @ point
    front = frame.global_from_camera[RING.index("CAM_FRONT")]
    by_frame = frame.intrinsics[RING.index("CAM_FRONT")] @ (np.linalg.inv(front) @ seen["global_from_ego"] @ point)[:3]
    np.testing.assert_allclose(by_lidar[:2] / by_lidar[2], by_frame[:2] / by_frame[2], atol=0.3)


def test_server_needs_nothing_but_numpy():
    code = ("import importlib.util, sys; s = importlib.util.spec_from_file_location('planner_server', sys.argv[1]); "
            "m = importlib.util.module_from_spec(s); s.loader.exec_module(m); "
            "print(sorted({n.split('.')[0] for n in sys.modules} & {'agents', 'dist4d_env', 'torch', 'gymnasium'}))")  # fmt: skip
    script = ROOT / "dist4d_env" / "planners" / "remote" / "planner_server.py"
    assert subprocess.run([sys.executable, "-c", code, script], capture_output=True, text=True).stdout == "[]\n"


def test_plans_come_with_their_step(url):
    planner = RemotePlanner(RemoteConfig(url, **PATIENT))
    planner.reset(CONTEXT, 0)
    plan = planner.plan(GIVEN)
    assert plan.dt == 0.1 and plan.trajectory[-1, 0] == pytest.approx(32.0) and plan.trajectory.dtype == float


@pytest.mark.parametrize(
    "seed, says",
    [
        (1, r"refused \(500\): ValueError: no lane"),
        (2, "not finite"),
        (3, r"answered \{'trajectory': \(8, 2\), 'dt': \(\)\}: a plan is a trajectory \(N, 3\)"),
        (6, "answered more than 1048576 bytes"),
        (7, r"refused \(500\): Mute"),
    ],
)
def test_wrong_plans(url, seed, says):
    planner = RemotePlanner(RemoteConfig(url, **PATIENT))
    planner.reset(CONTEXT, seed)
    with pytest.raises(RemoteError, match=says):
        planner.plan(GIVEN)
    planner.reset(CONTEXT, 0)
    assert planner.plan(GIVEN).trajectory.shape == (40, 3), "the server goes on"


def test_failing_reset(url):
    planner = RemotePlanner(RemoteConfig(url, **PATIENT))
    with pytest.raises(RemoteError, match="RuntimeError: weights of seed 13 are missing"):
        planner.reset(CONTEXT, 13)
    with pytest.raises(RemoteError, match=r"\(409\): the planner is not in this episode"):
        planner.plan(GIVEN)


def test_two_clients_do_not_mix_their_episodes(url):
    first, second = RemotePlanner(RemoteConfig(url, **PATIENT)), RemotePlanner(RemoteConfig(url, **PATIENT))
    first.reset(CONTEXT, 0)
    second.reset(CONTEXT, 0)
    with pytest.raises(RemoteError, match="another client took it over"):
        first.plan(GIVEN)
    assert len(second.plan(GIVEN).trajectory) == 40


STATES = """
import numpy as np
from dist4d_env.planners.remote.planner_server import serve

class Counting:
    def reset(self, episode):
        self.speed = float(episode["seed"])
    def plan(self, inputs):
        self.speed += 1
        return np.column_stack([self.speed * np.arange(1, 9), np.zeros(8), np.zeros(8)])

serve(Counting, port=0, cameras=False)
"""


def test_clients_of_a_class_have_planners_of_their_own():
    with served("-c", STATES) as address:
        clients = [RemotePlanner(RemoteConfig(address, **PATIENT)) for _ in range(3)]
        for seed, client in enumerate(clients):
            client.reset(CONTEXT, 10 * seed)
        plans = [[client.plan(GIVEN).trajectory[0, 0] for client in clients] for _ in range(2)]
    assert clients[0].name == "Counting" and plans == [[1, 11, 21], [2, 12, 22]]


HALF = b"POST /plan HTTP/1.1\r\nHost: localhost\r\nDist4d-Protocol: 1\r\nContent-Length: 100\r\n\r\nhalf"


@pytest.mark.parametrize("begun", [b"", b"POST /pl", b"POST /plan HTTP/1.1\r\nContent-Le", HALF])
def test_a_client_that_stops_talking_blocks_nobody(url, begun):
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port))) as silent:
        silent.sendall(begun)
        planner = RemotePlanner(RemoteConfig(url, **PATIENT))
        planner.reset(CONTEXT, 0)
        assert len(planner.plan(GIVEN).trajectory) == 40


def test_an_answer_that_drips_is_late():
    """Every byte is in time, the whole is not."""
    listener = socket.create_server(("127.0.0.1", 0))

    def drip() -> None:
        with contextlib.suppress(OSError):
            connection, _ = listener.accept()
            with connection:
                connection.sendall(HELLO)
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"HTTP/1.0 200 OK\r\n")
                while True:
                    connection.sendall(b"X-More: y\r\n")
                    time.sleep(0.05)

    threading.Thread(target=drip, daemon=True).start()
    with listener:
        planner = RemotePlanner(RemoteConfig(f"http://127.0.0.1:{listener.getsockname()[1]}", reset_limit=0.5))
        with pytest.raises(RemoteError, match=r"late: no answer to /reset within 0\.5 s"):
            planner.reset(CONTEXT, 0)


def test_late_and_gone():
    with served("-c", PLANNER) as address:
        slow = RemotePlanner(RemoteConfig(address, wait=300.0, plan_limit=0.2))
        slow.reset(CONTEXT, 4)
        with pytest.raises(RemoteError, match=r"late: no answer to /plan within 0\.2 s"):
            slow.plan(GIVEN)
    with served("-c", PLANNER) as address:
        planner = RemotePlanner(RemoteConfig(address, **PATIENT))
        planner.reset(CONTEXT, 5)
        with pytest.raises(RemoteError, match="broke off in the middle of /plan"):
            planner.plan(GIVEN)
    with pytest.raises(RemoteError, match="is gone: nothing listens there any more"):
        planner.plan(GIVEN)


def test_failure_is_the_planners(url, town_dataroot):
    env = gym.make("DiST4D-nuScenes-v0", dataroot=str(town_dataroot), world="none", action="trajectory", observation=("ego",),
                   horizon=2.0)  # fmt: skip
    log = run_episode(env, _Seeded(RemotePlanner(RemoteConfig(url, **PATIENT)), 1), 0,
                      RunOptions("town-val-0000", 0.0, plan_limit=300.0))  # fmt: skip
    env.close()
    assert log.outcome == PLANNER_ERROR and "RemoteError: the planner at http://127.0.0.1" in log.error and "no lane" in log.error


class _Seeded:
    """A planner whose episodes all have one seed."""

    def __init__(self, planner, seed: int) -> None:
        self.requires, self.plan, self._planner, self._seed = planner.requires, planner.plan, planner, seed

    def reset(self, context, seed: int) -> None:
        self._planner.reset(context, self._seed)


def test_nobody_there():
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with pytest.raises(RemoteError, match=f"no planner listens at http://127.0.0.1:{port}: start its server"):
        RemotePlanner(RemoteConfig(f"http://127.0.0.1:{port}", wait=0.0))


@pytest.mark.parametrize(
    "hello, says",
    [
        (http_answer(b"[" * 100_000), "is no planner server: it answered 200"),
        (http_answer(json.dumps({"protocol": "2", "needs": {}}).encode()), "does not speak protocol 1 .*'2'"),
        (http_answer(b"this server speaks protocol 7", "426 Upgrade Required"), "does not speak protocol 1 .*speaks protocol 7"),
        (http_answer(b"<html>"), "is no planner server: it answered 200"),
        (http_answer(b"[]", "404 Not Found"), "is no planner server: it answered 404"),
        (b"SSH-2.0-OpenSSH\r\n", "broke off"),
        (b"", "broke off"),
        (http_answer(b"{}", length=100), "broke off.*IncompleteRead"),
        (http_answer(b'{"protocol": "1", "needs": {"cameras": 1}}'), "does not declare whether it needs cameras"),
        (http_answer(b'{"protocol": "1", "needs": {"cameras": true, "map": true}}'), "needs map, which is not sent"),
    ],
)
def test_handshake(hello, says):
    with answering(hello) as address, pytest.raises(RemoteError, match=says):
        RemotePlanner(RemoteConfig(address, wait=0.0))


@pytest.mark.parametrize(
    "dt, says",
    [("soon", "a plan of float64 with dt of <U4"), (1j, "with dt of complex128"), (math.inf, "not finite"),
     (math.nan, "not finite"), ([0.5], r"answered \{'trajectory': \(8, 3\), 'dt': \(1,\)\}")],
)  # fmt: skip
def test_a_step_that_is_none(dt, says):
    with answering(HELLO, http_answer(pack({})), http_answer(pack({"trajectory": np.zeros((8, 3)), "dt": dt}))) as address:
        planner = RemotePlanner(RemoteConfig(address, wait=0.0))
        planner.reset(CONTEXT, 0)
        with pytest.raises(RemoteError, match=says):
            planner.plan(GIVEN)


def test_malformed_answers():
    bad = [b"not a zip", pickle.dumps([1]), b""]
    with answering(HELLO, *map(http_answer, bad)) as address:
        planner = RemotePlanner(RemoteConfig(address, wait=0.0))
        for _ in bad:
            with pytest.raises(RemoteError, match="answered something malformed: not an npz file of plain arrays"):
                planner.reset(CONTEXT, 0)


@pytest.mark.parametrize(
    "url",
    ["https://127.0.0.1:1", "http://example.org:8004", "http://10.0.0.1", "127.0.0.1:8004", "http://localhost/x", "http://[::1",
     "http://127.0.0.1:99999", 8004],
)  # fmt: skip
def test_only_the_loopback(url):
    with pytest.raises(ConfigError, match="reached on the loopback"):
        RemoteConfig(url)


def test_address_from_the_environment(monkeypatch):
    monkeypatch.setenv("DIST4D_PLANNER_URL", "http://127.0.0.1:9/")
    assert RemoteConfig().url == "http://127.0.0.1:9"
    monkeypatch.delenv("DIST4D_PLANNER_URL")
    assert RemoteConfig().url == "http://127.0.0.1:8004"
    with pytest.raises(ConfigError, match="plan_limit"):
        RemoteConfig(plan_limit=0.0)


@pytest.mark.parametrize(
    "method, path, headers, status, says",
    [
        ("GET", "/hello", {}, 426, "protocol 1, the request none"),
        ("GET", "/hello", {"Dist4d-Protocol": "1", "Host": "evil.example"}, 403, "loopback only"),
        ("GET", "/etc/passwd", {"Dist4d-Protocol": "1"}, 404, "there is no /etc/passwd"),
        ("POST", "/else", {"Dist4d-Protocol": "1"}, 404, "POST /plan"),
        ("POST", "/plan", {"Dist4d-Protocol": "1", "Content-Length": "999999999999"}, 413, "at most"),
        ("POST", "/plan", {"Dist4d-Protocol": "1", "Content-Length": "-1"}, 400, "no number of bytes: '-1'"),
        ("POST", "/plan", {"Dist4d-Protocol": "1", "Content-Length": b"\xb2"}, 400, "no number of bytes: '²'"),
        ("POST", "/plan", {"Dist4d-Protocol": "1"}, 411, "how long"),
        ("POST", "/reset", {"Dist4d-Protocol": "1", "Content-Length": "0"}, 400, "not an npz file"),
    ],
)
def test_server_refuses(url, method, path, headers, status, says):
    connection = http.client.HTTPConnection(url.removeprefix("http://"))
    connection.putrequest(method, path, skip_host="Host" in headers)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    assert response.status == status and says in text


def test_pack_and_unpack():
    arrays = {"a/b": np.arange(6.0).reshape(2, 3), "names": np.array(["x", "yy"]), "f": np.asfortranarray(np.eye(3)[:, :2]),
              "empty": np.zeros((0, 3)), "scalar": 3}  # fmt: skip
    back = unpack(pack(arrays))
    assert all(np.array_equal(back[name], value) for name, value in arrays.items()) and set(back) == set(arrays)
    back["a/b"][0] = 1  # the receiver's own


def test_pickles_never_travel():
    with pytest.raises(ValueError, match="is no plain array"):
        pack({"bad": [object()]})
    file = io.BytesIO()
    np.savez(file, bad=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="pickled object"):
        unpack(file.getvalue())


def test_bombs_are_refused():
    file = io.BytesIO()
    np.savez_compressed(file, zeros=np.zeros(10**6))
    with pytest.raises(ValueError, match="compressed members"):
        unpack(file.getvalue())
    with pytest.raises(ValueError, match="more than 100 bytes"):
        unpack(pack({"a": np.zeros(100)}), 100)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (10**12,)})
    lying = io.BytesIO()
    with zipfile.ZipFile(lying, "w") as archive:
        archive.writestr("a.npy", header.getvalue() + bytes(16))
    with pytest.raises(ValueError, match="promises"):
        unpack(lying.getvalue())


@pytest.mark.parametrize(
    "descr, shape, says",
    [("|S0", (2**62,), "numbers or strings"), ("|V8", (1,), "numbers or strings"), ("<f8", (-1, -2), "promises"),
     ("<U1", (2,), "not an npz file"), ("<f8", (2**40, 0), "promises|too big|16 bytes")],
)  # fmt: skip
def test_headers_that_lie_are_refused(descr, shape, says):
    header, lying = io.BytesIO(), io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": descr, "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(lying, "w") as archive:
        archive.writestr("a.npy", header.getvalue() + (b"" if 0 in shape else b"\xff" * 8))
    if shape == (2**40, 0):
        assert unpack(lying.getvalue())["a"].shape == shape
        return
    with pytest.raises(ValueError, match=says):
        unpack(lying.getvalue())


def test_can_bus_is_nuscenes():
    vector = can_bus(EGO)
    assert vector.shape == (18,)
    np.testing.assert_allclose(vector[:7], [3, -2, 0, math.sqrt(0.5), 0, 0, -math.sqrt(0.5)], atol=1e-12)
    np.testing.assert_allclose(vector[7:16], [0.5, 0.8, 9.81, 0, 0, 0.1, 8, 0, 0])
    np.testing.assert_allclose(vector[16:], [1.5 * math.pi, 270.0])


def test_pictures_come_with_their_calibration():
    """Every camera's own picture and matrices, in the models' order; LiDAR points land where the camera sees them."""
    poses = np.tile(np.eye(4), (6, 1, 1))
    poses[:, :3, :3] = [[0, 0, 1], [-1, 0, 0], [0, -1, 0]]
    poses[:, :3, 3] = [(1.7, 0.1 * view, 1.5) for view in range(6)]
    intrinsics = np.tile(np.array([[100.0, 0, 64], [0, 100.0, 32], [0, 0, 1]]), (6, 1, 1))
    scene = replace(make_scene(), rig=CameraRig(RING, intrinsics, poses, 64, 128))
    observation = {name: np.full((32, 64, 3), view, np.uint8) for view, name in enumerate(RING)} | {"agents": np.zeros((64, 9))}
    inputs = remote_inputs(PlannerInput(0.5, EGO, observation), scene, 3.0, 1)
    inputs = unpack(pack(inputs))
    assert inputs["camera_names"].tolist() == list(CAMERAS) and inputs["images"].shape == (6, 32, 64, 3)
    assert [CAMERAS.index(name) for name in RING] == [inputs["images"][:, 0, 0, 0].tolist().index(view) for view in range(6)]
    np.testing.assert_allclose(inputs["ego_from_camera"][:, 1, 3], 0.1 * inputs["images"][:, 0, 0, 0])
    point = np.array([11.7, 0.1, 1.5, 1.0])  # ego frame: 10 m straight ahead of CAM_FRONT, which is ring number 1
    seen = inputs["lidar2img"][0] @ np.linalg.inv(inputs["ego_from_lidar"]) @ point
    np.testing.assert_allclose(seen[:2] / seen[2], [32.0, 16.0], atol=1e-9)
    assert seen[2] == pytest.approx(10.0) and inputs["intrinsics"][0, 0, 0] == 50.0
    assert int(inputs["command"]) == 2 and inputs["route"].shape == (20, 2) and inputs["observation/agents"].shape == (64, 9)
