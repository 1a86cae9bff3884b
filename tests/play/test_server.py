"""The server over real sockets: who may come in, what nonsense is answered, that nobody waits for anybody, that all is freed."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from dist4d_env.__main__ import main
from dist4d_env.errors import ConfigError, DataError
from dist4d_env.play.drive import MOST
from dist4d_env.play.messages import FIELDS, read_command
from dist4d_env.play.server import PAGE
from tests.play.browser import SLOWEST, waited
from tests.play.conftest import TOKEN


def get(server: str, path: str, **headers: str) -> tuple[http.client.HTTPResponse, str]:
    connection = http.client.HTTPConnection(server, timeout=SLOWEST)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    return answer, answer.read().decode()


class Client:
    """A page without a browser."""

    def __init__(self, server: str, **options: Any) -> None:
        self._open = connect(f"ws://{server}/{TOKEN}/drive", max_size=None, **options)
        self.socket: ClientConnection = self._open.__enter__()
        self.state: dict[str, Any] = {}
        self.header: dict[str, Any] = {}
        self.events: list[dict[str, Any]] = []
        self.pictures = 0

    def say(self, name: str, /, **fields: Any) -> None:
        self.socket.send(json.dumps({"do": name, **fields}))

    def listen(self, until: Callable[[], Any]) -> Any:
        """Reads on until something is true."""
        end = time.monotonic() + SLOWEST
        while not (found := until()):
            message = self.socket.recv(timeout=max(end - time.monotonic(), 0.01))
            if isinstance(message, bytes):
                size = int.from_bytes(message[:4], "little")
                self.header, self.pictures = json.loads(message[4 : 4 + size]), self.pictures + 1
                assert len(message) == 4 + size + sum(length for _, length in self.header["parts"])
            else:
                event = json.loads(message)
                if event["type"] == "state":
                    self.state = event
                else:
                    self.events.append(event)
        return found

    def notice(self) -> str:
        """The next notice."""
        count = len(self.notices)
        self.listen(lambda: len(self.notices) > count)
        return self.notices[-1]

    @property
    def notices(self) -> list[str]:
        return [event["text"] for event in self.events if event["type"] == "notice"]

    def ready(self) -> Client:
        self.listen(lambda: self.header and self.state)
        return self

    def close(self) -> None:
        self._open.__exit__(None, None, None)


@pytest.fixture
def client(server):
    made = Client(server).ready()
    yield made
    made.close()


def test_the_page_has_a_strict_policy_and_nothing_from_elsewhere(server):
    for name, (_, _, kind) in PAGE.items():
        answer, text = get(server, f"/{TOKEN}/{name}")
        assert answer.status == 200 and answer.headers["Content-Type"].startswith(kind)
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "*" not in policy
        assert (
            "http:" not in text.replace("/^http/", "") and "https:" not in text and "<style" not in text and " style=" not in text
        )
        assert "onclick" not in text and "<script>" not in text


@pytest.mark.parametrize("path", ["/", "/wrong/", "/wrong/play.js", f"/{TOKEN[:-1]}/", "/drive"])
def test_a_wrong_token_is_one_line(server, path):
    answer, text = get(server, path)
    assert answer.status == 403 and text.count("\n") == 1 and "token" in text and TOKEN not in text


def test_strangers_stay_outside(server):
    assert get(server, f"/{TOKEN}/", Host="evil.example")[0].status == 400
    assert get(server, f"/{TOKEN}/nothing.js")[0].status == 404
    for place, origin in (("wrong", None), (TOKEN, "http://evil.example")):
        with pytest.raises(InvalidStatus), connect(f"ws://{server}/{place}/drive", origin=origin):
            pass


def test_bad_options_are_one_line(town_dataroot, capsys, tmp_path):
    file = tmp_path / "file"
    file.touch()
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    taken.listen()
    port = str(taken.getsockname()[1])
    here = ["--dataroot", str(town_dataroot)]
    for options, words in (
        ([*here, "--port", port], "cannot be had"),
        ([*here, "--port", "70000"], "port=70000"),
        ([*here, "--port", "0", "--world", "nothing"], "'nothing' is unknown"),
        ([*here, "--port", "0", "--world", "none"], "makes no pictures"),
        ([*here, "--port", "0", "--size", "65x112"], "size=(65, 112)"),
        ([*here, "--port", "0", "--world", "splat", "--scenes", "nowhere"], "nowhere"),
        (["--dataroot", "/nowhere", "--port", "0", "--world", "splat"], "/nowhere"),
        ([*here, "--port", "0", "--world", "splat", "--start", "900"], "start=900 s lies outside"),
        ([*here, "--port", "0", "--world", "splat", "--start", "-1"], "start must be a number"),
        ([*here, "--port", "0", "--world", "splat", "--traffic", "jam"], "jam"),
        ([*here, "--port", "0", "--world", "splat", "--seed", "-1"], "seed=-1"),
        ([*here, "--port", "0", "--world", "splat", "--out", str(file)], f"{file} is a file"),
        ([*here, "--port", "0", "--world", "splat", "--out", str(file / "below")], f"{file} is a file"),
    ):
        assert main(["play", *options]) == 2
        error = capsys.readouterr().err.strip()
        assert words in error and "\n" not in error and len(error) < 400, error
    taken.close()


def test_without_the_extra_it_says_what_to_install(monkeypatch, capsys):
    import sys

    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert main(["play"]) == 2
    assert "pip install 'dist4d_env[play]'" in capsys.readouterr().err


def test_driving_over_the_socket(client):
    assert client.state["tick"] == 0 and client.header["source"][0] in ("log", "splat")
    client.say("control", pedal=1, wheel=0.5)
    client.say("run", on=True)
    client.listen(lambda: client.state["tick"] >= 5 and client.header["tick"] >= 4)
    client.say("run", on=False)
    client.listen(lambda: not client.state["running"])
    tick = client.state["tick"]
    assert client.state["ego"][4] > 1 and client.state["wheel"] > 0
    client.say("step")
    client.listen(lambda: client.state["tick"] == tick + 1 and client.header["tick"] == tick + 1)
    client.say("show", world="oracle", memory="log")
    client.listen(lambda: client.header["world"] == "oracle")
    assert client.header["tick"] == client.state["tick"] == tick + 1
    client.say("view", view="cloud", compare=True, focus=1)
    client.listen(lambda: client.header["view"] == "cloud")
    assert [name for name, _ in client.header["parts"]][-3:] == ["truth", "difference", "depth"]
    client.say("go", tick=2)
    client.listen(lambda: client.state["tick"] == 2 and client.header["tick"] == 2)
    client.say("beside", forward=0, left=2, up=0, yaw=0.5)
    client.listen(lambda: client.header["elsewhere"])
    client.say("begin", scene="town-val-0001")
    client.listen(lambda: client.events[-1].get("scene") == "town-val-0001" and client.header["tick"] == 0)


def test_slow_motion_is_never_faster(client):
    client.say("pace", pace=0.25)
    client.say("run", on=True)
    client.listen(lambda: client.state["tick"] >= 1)
    first, began = client.state["tick"], time.monotonic()
    client.listen(lambda: client.state["tick"] >= first + 4)
    assert time.monotonic() - began > 1.1  # three whole waits of 0.4 s lie between


def test_of_many_words_the_last_counts(client, drives):
    for _ in range(2000):
        client.say("control", pedal=-1, wheel=-1)
    client.say("control", pedal=0.75, wheel=0)
    client.say("step")
    client.listen(lambda: client.state["tick"] == 1)
    [drive] = drives.running
    assert drive._session.now.decision.action[0] == 0.75


def test_saving_over_the_socket(client, drives):
    client.say("save")
    assert "drive first" in client.notice()
    client.say("pace", pace=0)
    client.say("run", on=True)
    client.listen(lambda: client.state["tick"] >= 3)
    client.say("save")
    client.listen(lambda: client.events[-1]["type"] == "saved")
    place = client.events[-1]["place"]
    assert place.startswith(str(drives.out)) and any(event["type"] == "progress" for event in client.events)


NONSENSE = (
    "",
    "{",
    "[]",
    '{"do": 3}',
    '{"do": "fly"}',
    '{"do": "control", "pedal": 1e999, "wheel": 0}',
    '{"do": "go", "tick": -1}',
    '{"do": "pace", "pace": 7}',
    '{"do": "run", "on": 1}',
    '{"do": "show", "world": ["x"], "memory": "log"}',
    b"",
    b"\xff\x00",
    b'{"do": "fly"}',
)


def test_nonsense_is_answered_in_one_line_and_the_drive_goes_on(client):
    for text in NONSENSE:
        client.socket.send(text)
        notice = client.notice()
        assert "\n" not in notice and len(notice) < 300
    for name, fields, word in (
        ("show", {"world": "nothing", "memory": "log"}, "unknown"), ("branch", {"number": 3}, "no branch"),
        ("show", {"world": "json:loads", "memory": "log"}, "loads"), ("planner", {"name": "json:loads"}, "loads"),
        ("planner", {"name": "nobody"}, "nobody"), ("begin", {"scene": "elsewhere"}, "elsewhere"),
        ("insert", {"category": "car", "x": 9e3, "y": 0, "heading": None, "speed": 0}, "beyond the route"),
    ):  # fmt: skip
        client.say(name, **fields)
        assert word in client.notice()
    client.say("step")
    client.listen(lambda: client.state["tick"] == 1)


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_any_json_is_a_command_or_one_clear_error(value):
    for message in (
        value,
        {"do": "control", "pedal": value, "wheel": 0},
        {"do": "begin", "scene": value},
        {"do": "go", "tick": value},
    ):
        try:
            command = read_command(json.dumps(message))
        except ConfigError as error:
            assert "\n" not in str(error) and len(str(error)) < 300
        else:
            assert command.fields.keys() == FIELDS[command.name].keys()


def test_no_tick_comes_between_what_a_command_does(client, drives, monkeypatch):
    """Time goes on while somebody goes back: where one has gone back to is the present then, and nothing has branched."""
    [drive] = drives.running
    session = drive._session
    go_to = session.go_to

    def slow(tick: int) -> object:
        moment = go_to(tick)
        time.sleep(0.5)
        return moment

    monkeypatch.setattr(session, "go_to", slow)
    client.say("run", on=True)
    client.listen(lambda: client.state["tick"] >= 5)
    client.say("go", tick=2)
    client.listen(lambda: client.state["tick"] < 5)
    assert client.state["tick"] == session.cursor == 2 and not client.state["branches"] and client.state["ticks"] >= 5


def test_the_truth_is_of_the_picture_s_own_instant(client):
    """Time goes on while a picture is made; its truth must not be that of a later instant."""
    client.say("show", world="oracle", memory="log")
    client.say("view", view="colour", compare=True, focus=1)
    client.say("pace", pace=0.5)
    client.say("run", on=True)
    seen = set()
    while len(seen) < 4 and not client.state["endedBy"]:
        count = client.pictures
        client.listen(lambda count=count: client.pictures > count or client.state["endedBy"])
        if client.header["world"] == "oracle" and client.header["compared"]:
            assert client.header["compared"]["psnr"] is None, "the oracle is the truth"
            seen.add(client.header["tick"])
    assert len(seen) > 1


class BrokenWorld:
    """Shows a picture, fails at the next, and so on."""

    def reset(self, starts):
        return [0 for _ in starts]

    def step(self, states, scenes):
        raise RuntimeError("out of order")


def test_a_world_that_fails_takes_nobody_s_drive(client, capsys):
    client.say("show", world=f"{__name__}:BrokenWorld", memory="log")
    assert "RuntimeError: out of order" in client.notice()
    client.say("run", on=True)
    assert "RuntimeError: out of order" in client.notice(), "time stands still for its picture, which is tried again"
    client.say("show", world="splat", memory="log")
    client.listen(lambda: client.header["world"] == "splat" and client.header["tick"] == client.state["tick"])
    client.say("step")
    client.listen(lambda: client.state["tick"] == 1)
    assert "Traceback" in capsys.readouterr().err


def test_a_planner_is_blamed_for_its_own_failures_alone(client, drives, monkeypatch):
    [drive] = drives.running
    client.say("planner", name="tests.play.test_session:FailingPlanner")
    client.listen(lambda: client.state["driver"].startswith("tests"))

    def broken(*_: float) -> None:
        raise DataError("a file has gone")

    with monkeypatch.context() as patched:
        patched.setattr(drive._session, "tick", broken)
        client.say("step")
        assert client.notice() == "a file has gone"
        assert drive._session.pilot is not None
    for tick in range(1, 6):
        client.say("step")
        client.listen(lambda tick=tick: client.state["tick"] == tick)
    client.say("step")
    assert client.notice().startswith("the planner failed, the wheel is yours: ") and drive._session.pilot is None


def test_a_tab_that_is_closed_while_its_scene_opens_frees_everything(server, drives, monkeypatch):
    waited(lambda: not drives.running, "earlier drives to end")
    make, made = drives.make, []

    def slow() -> object:
        time.sleep(0.5)
        made.append(make())
        return made[-1]

    monkeypatch.setattr(drives, "make", slow)
    client = Client(server)
    waited(lambda: drives.running, "the drive to begin")
    client.close()
    waited(lambda: not drives.running, "the drive to end")
    time.sleep(1.0)
    assert made and not made[0]._envs and not drives.worlds.open_looks


def test_two_drive_two_episodes_and_a_closed_tab_frees_everything(server, drives):
    waited(lambda: not drives.running, "earlier drives to end")
    one, other = Client(server).ready(), Client(server).ready()
    one.say("control", pedal=1, wheel=0)
    one.say("run", on=True)
    one.listen(lambda: one.state["tick"] >= 4)
    other.say("step")
    other.listen(lambda: other.state["tick"] == 1)
    assert len(drives.running) == 2 and other.state["ego"] != one.state["ego"]
    one.close()
    waited(lambda: len(drives.running) == 1, "the first drive to end")
    other.say("step")
    other.listen(lambda: other.state["tick"] == 2)
    other.socket.socket.shutdown(socket.SHUT_RDWR)  # a tab that says no goodbye
    waited(lambda: not drives.running and not drives.worlds.open_looks, "everything to be free")


def test_too_many_are_told(server, drives):
    waited(lambda: not drives.running, "earlier drives to end")
    clients = [Client(server) for _ in range(MOST)]
    waited(lambda: len(drives.running) == MOST, "all to drive")
    late = Client(server)
    assert "close one of their tabs" in late.notice()
    with pytest.raises(ConnectionClosed):
        late.socket.recv(timeout=SLOWEST)
    for client in clients:
        client.close()
    waited(lambda: not drives.running, "everything to be free")


def test_a_client_that_does_not_read_slows_nothing(server, drives):
    """The world goes on at its pace, and what the client gets when it reads again is the newest."""
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    host, port = server.split(":")
    narrow.connect((host, int(port)))
    slow = Client(server, max_queue=1, sock=narrow, ping_interval=None).ready()
    [drive] = drives.running
    slow.say("view", view="cloud", compare=False, focus=1)  # 100 kB a picture, more in all than sockets hold
    slow.say("pace", pace=0)
    slow.say("run", on=True)
    waited(lambda: drive._session.now.ended_by is not None, "the episode to end though nobody reads")
    for _ in range(300):
        slow.socket.send("nonsense")
    slow.say("control", pedal=0.5, wheel=0)
    waited(lambda: drive._control == (0.5, 0), "all to be heard")
    assert len(drive._latest) < 4
    painted, last = slow.pictures, drive._session.cursor
    slow.listen(lambda: slow.state["tick"] == last and slow.header["tick"] == last)
    assert slow.pictures - painted < last
    slow.close()
