"""Serves a planner over HTTP on the loopback. Copy this one file into the planner's environment: it needs numpy and Python 3.8.

    GET  /hello   JSON: protocol, name, needs
    POST /reset   npz -> npz: an episode begins
    POST /plan    npz -> npz: one decision

Every request carries the headers ``Dist4d-Protocol`` and ``Dist4d-Client``, the posts also ``Dist4d-Episode``. A refusal is a
4xx or 5xx with one line of plain text. Bodies are npz files of plain arrays, stored without compression; objects (pickles) are
refused.
"""

from __future__ import annotations

import hmac
import io
import json
import os
import sys
import traceback
import zipfile
from collections import OrderedDict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PROTOCOL = "1"
PORT = 8004
MAX_REQUEST = 256 * 2**20
"""Bytes: six images of 900 x 1600 with depth are 58 MB."""

KINDS = "biufcSU"
"""Of the arrays that travel: truths, integers, floating point and complex numbers, bytes, text."""

MOST_CLIENTS = 16
"""That have a planner of their own at the same time."""

_LOCAL = ("127.0.0.1", "localhost", "[::1]")


def pack(arrays: Mapping[str, Any]) -> bytes:
    """Named arrays, numbers and strings as an npz file. Raises ValueError for what is no plain array."""
    plain = {name: np.asarray(value) for name, value in arrays.items()}
    for name, array in plain.items():
        if array.dtype.kind not in KINDS:
            raise ValueError(f"{name} is no plain array of numbers or strings but {array.dtype}")
    file = io.BytesIO()
    np.savez(file, **plain)
    return file.getvalue()


def unpack(data: bytes, limit: int = MAX_REQUEST) -> dict[str, np.ndarray]:
    """The arrays of an npz file from somebody else.

    Nothing is unpickled, and nothing is allocated that the file does not really hold. Raises ValueError for anything else than
    uncompressed plain arrays of at most ``limit`` bytes.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            if any(member.compress_type != zipfile.ZIP_STORED for member in members):
                raise ValueError("compressed members; write it with numpy.savez")
            if sum(member.file_size for member in members) > limit:
                raise ValueError(f"more than {limit} bytes")
            names = {member.filename for member in members}
            if len(names) < len(members) or not all(name.endswith(".npy") for name in names):
                raise ValueError("members that are no .npy files, or of the same name")
            return {member.filename[: -len(".npy")]: _array(archive.read(member)) for member in members}
    except Exception as error:  # zipfile and numpy raise many kinds, which depend on their version
        raise ValueError(one_line(f"not an npz file of plain arrays: {str(error) or type(error).__name__}")) from None


def one_line(message: object) -> str:
    """A message as one short line."""
    text = " ".join(str(message).split())
    return text if len(text) <= 300 else text[:297] + "..."


def _described(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # a planner's own kind, which cannot say what it is
        return type(error).__name__


def _array(data: bytes) -> np.ndarray:
    """One .npy member, whose header must promise exactly the bytes that follow."""
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
    if read is None:
        raise ValueError(f"npy version {version} is unknown")
    shape, fortran, dtype = read(file)
    if dtype.hasobject:
        raise ValueError("a pickled object")
    if dtype.kind not in KINDS or dtype.itemsize == 0:
        raise ValueError(f"elements of type {dtype}, not numbers or strings")
    count = 1
    for side in shape:
        count *= int(side)
    if min(shape, default=0) < 0 or count * dtype.itemsize != len(data) - file.tell():
        raise ValueError(f"a header that promises {shape} {dtype}, but {len(data) - file.tell()} bytes")
    array = np.frombuffer(data, dtype, count, file.tell()).reshape(shape, order="F" if fortran else "C").copy()
    if dtype.kind == "U":
        array.tolist()  # raises for what are no characters
    return array


def serve(planner: Any, port: int | None = None, cameras: bool = True, lidar: bool = False) -> None:
    """Serve a planner on 127.0.0.1 until the process is stopped.

    planner: a function ``plan(inputs)``; an object with such a method and, if it likes, ``reset(episode)``; or a class of such
    objects, made without arguments. Both methods take dicts of arrays. ``plan`` returns an (N, 3) array of x, y, heading in the
    ego frame at 0.5 s, 1 s, ..., or such an array and the seconds between its poses. cameras, lidar: whether pictures and LiDAR
    points should be sent; port: $DIST4D_PLANNER_PORT or 8004 if not given, 0 takes a free one. Prints the address once it
    listens.

    Serves any number of clients; the planner itself is called for one at a time. A function drives all of them, of a class each
    client has an object of its own (the MOST_CLIENTS heard of last keep theirs). An object with ``reset`` drives one episode:
    who resets it takes it over from the others.
    """
    try:
        server = _Server(planner, port, bool(cameras), bool(lidar))
    except (OSError, OverflowError, ValueError) as error:
        sys.exit(f"cannot listen ({error}): give another port, or set DIST4D_PLANNER_PORT to one, a number up to 65535")
    print(f"{server.title} plans at http://127.0.0.1:{server.server_port}", flush=True)
    try:
        server.serve_forever()
    finally:
        server.server_close()


class _Seat:
    """A planner, and the client's episode that it is in, empty in none."""

    def __init__(self, planner: Any) -> None:
        self.plan = planner.plan if hasattr(planner, "plan") else planner
        if not callable(self.plan):
            raise TypeError(f"{planner!r} is neither a function nor has it a method plan(inputs)")
        self.reset = getattr(planner, "reset", None)
        self.episode = ""


class _Server(ThreadingHTTPServer):
    """A thread per connection, so that a client that stops talking holds up nobody; ``busy`` is held while a planner works."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, planner: Any, port: int | None, cameras: bool = True, lidar: bool = False) -> None:
        self.make = planner if isinstance(planner, type) else None
        self.shared = None if self.make else _Seat(planner)
        self.seats: OrderedDict[str, _Seat] = OrderedDict()
        self.busy = Lock()
        self.title = getattr(planner, "__name__", type(planner).__name__)
        self.hello = {"protocol": PROTOCOL, "name": self.title, "needs": {"cameras": cameras, "lidar": lidar}}
        port = int(os.environ.get("DIST4D_PLANNER_PORT", PORT)) if port is None else port
        super().__init__(("127.0.0.1", port), _Handler)

    def seat(self, client: str) -> _Seat:
        """The planner of a client."""
        if self.shared is not None:
            return self.shared
        if client not in self.seats:
            self.seats[client] = _Seat(self.make())  # type: ignore[misc]
        self.seats.move_to_end(client)
        while len(self.seats) > MOST_CLIENTS:
            self.seats.popitem(last=False)
        return self.seats[client]

    def handle_error(self, request: Any, client_address: Any) -> None:
        print(one_line(f"a client went away: {sys.exc_info()[1]!r}"), file=sys.stderr)


class _Refusal(Exception):
    """status: of HTTP; the message is sent to the client."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = 60.0  # s, for a client that stops talking in the middle of a request

    def do_GET(self) -> None:
        self._answer(self._hello)

    def do_POST(self) -> None:
        self._answer({"/reset": self._reset, "/plan": self._plan}.get(self.path, self._unknown))

    def log_message(self, format: str, *arguments: Any) -> None:
        """Quiet: errors go to the client and are printed by ``_answer``."""

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What is no HTTP, in one line as every other refusal."""
        self._send(int(code), "text/plain; charset=utf-8", one_line(message or "not understood").encode())
        self.close_connection = True

    def _answer(self, make: Callable[[], tuple[str, bytes]]) -> None:
        text = "text/plain; charset=utf-8"
        try:
            self._check()
            kind, body, status = (*make(), 200)
        except _Refusal as refusal:
            kind, body, status = text, one_line(refusal).encode(), refusal.status
        except (Exception, SystemExit) as error:  # what the planner raises is its client's to know, and the server goes on
            traceback.print_exc(file=sys.stderr)
            kind, body, status = text, one_line(_described(error)).encode("utf-8", "replace"), 500
        self._send(status, kind, body)

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.request_version = "HTTP/1.0"  # else what is taken for HTTP 0.9 is answered without a status
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _check(self) -> None:
        host = self.headers.get("Host", "")
        if host.rsplit(":", 1)[0] not in _LOCAL:
            raise _Refusal(403, f"this planner answers on the loopback only, not as {host!r}")
        version = self.headers.get("Dist4d-Protocol")
        if version != PROTOCOL:
            raise _Refusal(426, f"this server speaks protocol {PROTOCOL}, the request {version or 'none'}")

    def _body(self) -> dict[str, np.ndarray]:
        length = self.headers.get("Content-Length")
        if length is None:
            raise _Refusal(411, "the request does not say how long it is")
        if not (length.isascii() and length.isdigit()) or len(self.headers.get_all("Content-Length", [])) > 1:
            raise _Refusal(400, f"the request's length is no number of bytes: {length!r}")
        if len(length) > 20 or int(length) > MAX_REQUEST:
            raise _Refusal(413, f"the request has {length} bytes, at most {MAX_REQUEST} are read")
        try:
            data = self.rfile.read(int(length))
        except OSError as error:
            self.close_connection = True
            raise _Refusal(408, f"the request breaks off: {error}") from None
        if len(data) < int(length):
            raise _Refusal(400, f"the request has {len(data)} bytes and says {length}")
        try:
            return unpack(data)
        except ValueError as error:
            raise _Refusal(400, f"the request is {error}") from None

    def _unknown(self) -> tuple[str, bytes]:
        raise _Refusal(404, f"there is no {self.path[:100]}: GET /hello, POST /reset and POST /plan")

    def _hello(self) -> tuple[str, bytes]:
        if self.path != "/hello":
            self._unknown()
        return "application/json", json.dumps(self.server.hello).encode()

    def _reset(self) -> tuple[str, bytes]:
        episode = self._body()
        with self.server.busy:
            seat = self.server.seat(self.headers.get("Dist4d-Client", ""))
            seat.episode = ""  # a planner that fails to begin is in no episode
            if seat.reset is not None:
                seat.reset(episode)
            seat.episode = self.headers.get("Dist4d-Episode", "")
        return "application/x-npz", pack({})

    def _plan(self) -> tuple[str, bytes]:
        inputs = self._body()
        with self.server.busy:
            seat = self.server.seat(self.headers.get("Dist4d-Client", ""))
            theirs = self.headers.get("Dist4d-Episode", "")
            if seat.reset is not None and not (seat.episode and hmac.compare_digest(seat.episode.encode(), theirs.encode())):
                raise _Refusal(
                    409, "the planner is not in this episode: another client took it over; serve a class, or run one each"
                )
            result = seat.plan(inputs)
        trajectory, dt = result if isinstance(result, tuple) else (result, 0.5)
        return "application/x-npz", pack({"trajectory": np.asarray(trajectory, float), "dt": float(dt)})
