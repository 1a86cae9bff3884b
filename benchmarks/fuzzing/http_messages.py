"""HTTP between a planner and its server: requests that the server gets from anybody, and answers that the client gets."""

from __future__ import annotations

import json
import socket
import threading
from functools import cache
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from benchmarks.fuzzing.npz import CHANGES, MADE, TORN, WHOLE, mutated
from dist4d_env.planners.contract import Plan
from dist4d_env.planners.remote import RemoteConfig, RemoteError, RemotePlanner
from dist4d_env.planners.remote.planner_server import _Server, pack

SHORT = 20.0
"""Seconds for an answer."""

STRANGE = [
    b"",
    b"-1",
    b"\xb2",
    b"+5",
    b"5, 5",
    b"0x10",
    b"1e3",
    b"9" * 5000,
    b"\x00",
    b"\xff\xfe",
    b" ",
    b"x" * 70_000,
    b"a\r\n b",
]
LINES = [b"GET /hello HTTP/1.0", b"POST /reset HTTP/1.1", b"POST /plan HTTP/1.0", b"GET /plan HTTP/1.1", b"POST /hello HTTP/1.0",
         b"PUT /plan HTTP/1.0", b"GET /hello", b"GET /hello HTTP/9.9", b"GET /hello HTTP/\xb2", b"GET", b"", b"GET  HTTP/1.0",
         b"GET /" + b"x" * 70_000 + b" HTTP/1.0", b"POST /plan HTTP/2.0", b"\x16\x03\x01", b"GET \xff HTTP/1.0"]  # fmt: skip
NAMES = st.sampled_from([b"Host", b"Dist4d-Protocol", b"Dist4d-Episode", b"Dist4d-Client", b"Content-Length", b"Expect",
                         b"Transfer-Encoding", b"Connection", b"\xe9", b""])  # fmt: skip
VALUES = st.sampled_from([*STRANGE, b"localhost", b"1", b"e", b"chunked", b"100-continue", b"keep-alive", b"[::1]:80"])
BODIES = WHOLE.map(pack) | TORN | MADE | st.binary(max_size=20)


def request(line: bytes, body: bytes, sized: bool, more: list[tuple[bytes, bytes]]) -> bytes:
    """A request with the headers of a client, that of its length where it is ``sized``, then others."""
    headers = [(b"Host", b"127.0.0.1"), (b"Dist4d-Protocol", b"1"), (b"Dist4d-Episode", b"e")]
    headers += [(b"Content-Length", str(len(body)).encode())] if sized else []
    return b"\r\n".join([line, *(name + b": " + value for name, value in [*headers, *more]), b"", body])


def answer(status: bytes, length: bytes | None, body: bytes) -> bytes:
    """A server's answer."""
    size = str(len(body)).encode() if length is None else length
    return b"HTTP/1.0 " + status + b"\r\nContent-Length: " + size + b"\r\n\r\n" + body


MORE = st.lists(st.tuples(NAMES, VALUES), max_size=2) | st.just([(b"X", b"y")] * 200)
REQUESTS = st.builds(request, st.sampled_from(LINES[:4] * 6 + LINES), BODIES, st.booleans(), MORE)
NUMBERS = st.sampled_from([0.5, 0, -1, np.nan, np.inf, "x", 1j, True, [0.5], [], 2**63, 1e300])
SHAPES = st.sampled_from([(8, 3), (0, 3), (8, 2), (3,), (), (1, 8, 3)])
PLANS = st.builds(
    lambda shape, fill, dt: pack({"trajectory": np.full(shape, fill), "dt": dt}), SHAPES, NUMBERS.filter(np.isscalar), NUMBERS
)
NEEDS: st.SearchStrategy[object] = st.dictionaries(
    st.sampled_from(["cameras", "lidar", "map", "x" * 400]), st.sampled_from([True, False, None, 1, [], "y"])
)
HELLOS = st.fixed_dictionaries(
    {"protocol": st.sampled_from(["1", 1, "2", None, "x" * 1000])},
    optional={"needs": NEEDS | st.sampled_from([None, [], "x" * 1000]), "name": st.sampled_from(["p", 3, None, "x\ny" * 500])},
).map(lambda hello: json.dumps(hello).encode())  # fmt: skip
DEEP = st.sampled_from([b"[" * 100_000, b'{"protocol": ' + b"9" * 5000 + b"}", b"null", b"\xff", b"NaN"])
STATUSES = st.sampled_from(
    [b"200 OK"] * 6 + [b"404 No", b"500 " + b"x" * 5000, b"200", b"\xb2", b"999 ?", b"100 Continue", b"426 \xff", b""]
)
ANSWERS = st.builds(answer, STATUSES, st.none() | st.none() | st.sampled_from(STRANGE), PLANS | BODIES | HELLOS | DEEP)


def torn(messages: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """The same messages, half of them broken."""
    cuts = st.sampled_from([0, 0, 1, 40])
    return messages | st.builds(
        lambda message, changes, cut: mutated(message, changes, cut) if message else b"", messages, CHANGES, cuts
    )


CASES = st.tuples(st.just("request"), torn(REQUESTS)) | st.tuples(st.sampled_from(["plan", "hello"]), torn(ANSWERS))


def attempt(case: tuple[str, bytes], folder: Path) -> str:
    """Requests go to a server that lives through all cases; answers come to a client that asks for a plan or says hello."""
    kind, message = case
    if kind == "request":
        return served(message)
    peer = impostor()
    peer.answer = message
    try:
        if kind == "hello":
            peer.planner()
        else:
            made = peer.client._plan_of(peer.client._post("/plan", {"ego": np.zeros(7)}, SHORT))
            check_plan(made)
    except RemoteError as error:
        assert len(str(error)) <= 500 and "\n" not in str(error), f"unclear: {error}"
        return "refused"
    return "accepted"


def check_plan(plan: Plan) -> None:
    assert plan.trajectory.ndim == 2 and plan.trajectory.shape[1] == 3 and np.isfinite(plan.trajectory).all(), "silent: no plan"
    assert 0 < plan.dt < np.inf, f"silent: dt {plan.dt}"


def served(message: bytes) -> str:
    """What the server makes of a request: a result, or one line that says what is wrong."""
    with socket.create_connection(("127.0.0.1", server().server_port), timeout=SHORT) as link:
        received = b""
        try:
            link.sendall(message)
            link.shutdown(socket.SHUT_WR)
            while part := link.recv(65536):
                received += part
        except (ConnectionError, OSError) as error:
            if isinstance(error, TimeoutError):
                raise
            return "refused"  # it answers without reading what is too long
    if not received:
        first = message.split(b"\n")[0].decode("latin-1")  # of which http.server counts 0x1c to 0x1f as spaces, too
        assert not first.split(), "silent: a request without an answer"
        return "refused"
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 "), f"unclear: {received[:300]!r}"
    status = int(head.split()[1])
    if status == 200:
        return "accepted"
    assert status in (400, 403, 404, 408, 409, 411, 413, 414, 426, 431, 501, 505), f"status {status}: {body[:300]!r}"
    assert len(body.decode()) <= 300 and b"\n" not in body, f"unclear: {body!r}"
    return "refused"


@cache
def server() -> _Server:
    """A server of a function, in threads of this process."""
    made = _Server(lambda inputs: np.zeros((8, 3)), 0, cameras=False)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    return made


class Impostor:
    """Answers every connection with ``answer``; the first one as a planner's server would, so that ``client`` can be made."""

    def __init__(self) -> None:
        hello = json.dumps({"protocol": "1", "needs": {"cameras": False}}).encode()
        self.answer = answer(b"200 OK", None, hello)
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=16)
        threading.Thread(target=self._answer, daemon=True).start()
        self.client = self.planner()

    def planner(self) -> RemotePlanner:
        return RemotePlanner(RemoteConfig(f"http://127.0.0.1:{self.listener.getsockname()[1]}", wait=0.0))

    def _answer(self) -> None:
        while True:
            link, _ = self.listener.accept()
            with link:
                try:
                    head = b""
                    while b"\r\n\r\n" not in head:
                        head += link.recv(65536)
                    start, _, body = head.partition(b"\r\n\r\n")
                    size = start.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]
                    while len(body) < int(size or 0):
                        body += link.recv(65536)
                    link.sendall(self.answer)
                except OSError:
                    pass


impostor = cache(Impostor)
