"""A drive over a WebSocket: time goes on at its pace, pictures come as fast as they can, and neither waits for the page.

Of what comes in, the last word counts; of what the page has not taken yet, the newest of each kind replaces the older. Ticks and
commands take turns, so that no tick comes between what a command does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from starlette.websockets import WebSocket, WebSocketDisconnect

from dist4d_env.errors import DiST4DError
from dist4d_env.evaluation.report.replays import origin_of
from dist4d_env.planners.contract import PlannerFailure
from dist4d_env.play.messages import EVERY_PICTURE, Command, read_command
from dist4d_env.play.recording import save
from dist4d_env.play.session import Beside, Picture, Session
from dist4d_env.play.wire import front_camera, pictures_message, scene_message, state_message
from dist4d_env.play.worlds import Look, Worlds
from dist4d_env.scenes.scene import TICK

MOST = 4
"""Drives at once."""
WAITING = 16
"""Commands that wait while another one is carried out; more are refused."""
LATEST = ("go", "beside", "view")
"""Commands of which only the last counts while they wait."""
FAILED = 1011
Result = TypeVar("Result")


class Drives:
    """What the drives of a server share. make: a new session; scenes: those that the page offers, the first to begin with; out:
    where drives are saved."""

    def __init__(self, make: Callable[[], Session], worlds: Worlds, scenes: Sequence[str], out: Path, start: float = 0.0) -> None:
        self.make, self.worlds, self.scenes, self.out, self.start = make, worlds, tuple(scenes), out, start
        self.running: set[Drive] = set()

    def refusal(self) -> str | None:
        """Why there cannot be another one now."""
        if len(self.running) < MOST:
            return None
        return f"{MOST} drives are under way already: close one of their tabs, then load this page again"

    def left(self, drive: Drive) -> None:
        """A drive is over; with the last one the worlds go, too."""
        self.running.discard(drive)
        if not self.running:
            self.worlds.forget()


class _Abandoned(Exception):
    """A picture is no longer wanted."""


class Drive:
    """One tab's drive, from when it has connected until it is gone."""

    def __init__(self, drives: Drives, socket: WebSocket) -> None:
        self._drives, self._socket = drives, socket
        self._threads = ThreadPoolExecutor(3, "play")
        self._loop = asyncio.get_running_loop()
        self._control, self._running, self._pace = (0.0, 0.0), False, 1.0
        self._view: dict[str, Any] = {"view": "colour", "compare": False, "focus": 0}
        self._beside: Beside | None = None
        self._commands: list[Command] = []
        self._latest: dict[str, str | bytes] = {}
        self._asked, self._wanted, self._wake, self._go, self._painted = (asyncio.Event() for _ in range(5))
        self._turn = asyncio.Lock()
        self._held, self._version, self._begun, self._closed = True, 0, 0, False
        self._said = 0.0

    async def run(self) -> None:
        """Until the tab is closed."""
        self._drives.running.add(self)
        tasks: list[asyncio.Task[None]] = []
        try:
            self._say({"type": "progress", "text": "opening the scene"})
            tasks = [asyncio.create_task(part()) for part in (self._send, self._receive, self._drive)]
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                await self._last_words(task.exception())
        finally:
            self._closed = True
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.to_thread(self._end)
            self._drives.left(self)

    def _end(self) -> None:
        """Once nothing of this drive is at work any more, which may open worlds until then, nothing of it stays."""
        self._threads.shutdown(cancel_futures=True)
        if hasattr(self, "_session"):
            self._session.close()

    async def _last_words(self, error: BaseException | None) -> None:
        """What ended the drive, told to the page if it is still there."""
        if error is None or isinstance(error, WebSocketDisconnect):
            return
        with contextlib.suppress(Exception):
            await self._socket.send_text(json.dumps({"type": "notice", "text": _words(error), "last": True}))
            await self._socket.close(FAILED)

    # In and out

    async def _receive(self) -> None:
        while (message := await self._socket.receive())["type"] == "websocket.receive":
            try:
                command = read_command(message.get("text") or message.get("bytes") or "")
            except DiST4DError as error:
                self._notice(str(error))
                continue
            if command.name == "control":
                self._control = command.fields["pedal"], command.fields["wheel"]
            elif self._commands and command.name in LATEST and self._commands[-1].name == command.name:
                self._commands[-1] = command
            elif len(self._commands) >= WAITING:
                self._notice("busy: wait a moment")
            else:
                self._commands.append(command)
            self._asked.set()

    async def _send(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._latest:
                content = self._latest.pop(next(iter(self._latest)))
                if isinstance(content, bytes):
                    await self._socket.send_bytes(content)
                else:
                    await self._socket.send_text(content)

    def _say(self, event: dict[str, Any]) -> None:
        self._post(event["type"], json.dumps(event))

    def _notice(self, text: str) -> None:
        self._say({"type": "notice", "text": text})

    def _post(self, kind: str, content: str | bytes) -> None:
        self._latest[kind] = content
        self._wake.set()

    async def _do(self, work: Callable[..., Result], *arguments: Any) -> Result:
        """In a thread of this drive."""
        return await self._loop.run_in_executor(self._threads, work, *arguments)

    # Time, pictures and commands

    async def _drive(self) -> None:
        await self._do(self._make)
        await self._begin(self._drives.scenes[0])
        parts = [asyncio.create_task(part()) for part in (self._obey, self._tick, self._paint)]
        try:
            done, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
            for part in done:
                part.result()
        finally:
            for part in parts:
                part.cancel()
            await asyncio.gather(*parts, return_exceptions=True)

    def _make(self) -> None:
        """In a thread: it is closed in any case, also if the tab is by the time it is there."""
        self._session = self._drives.make()

    async def _begin(self, scene: str) -> None:
        await self._do(self._session.begin, scene, self._drives.start)
        self._running, self._beside, self._begun = False, None, self._begun + 1
        self._view["focus"] = front_camera(self._session.scene.rig)
        message = await self._do(scene_message, self._session, self._drives.scenes)
        self._latest.clear()  # it was of the scene before
        self._say(message)
        await self._changed()

    async def _tick(self) -> None:
        """Time: a tick when it is due, or when the picture of the last one is there."""
        due = 0.0
        while True:
            await self._go.wait()
            if self._pace == EVERY_PICTURE:
                await self._painted.wait()
            else:
                due = max(due + TICK / self._pace, time.monotonic())
                await asyncio.sleep(due - time.monotonic())
            async with self._turn:
                if self._go.is_set():
                    await self._one_tick()

    async def _one_tick(self) -> None:
        self._painted.clear()
        try:
            await self._do(self._session.tick, *self._control)
        except Exception as error:
            self._running = False
            lost = "the planner failed, the wheel is yours: " if isinstance(error, PlannerFailure) else ""
            self._notice(f"{lost}{_words(error)}")
        await self._told()
        self._wanted.set()

    async def _told(self) -> None:
        """The state goes to the page; over is over."""
        state = await self._do(state_message, self._session)
        self._running = self._running and state["endedBy"] is None
        self._let_go()
        state |= {"running": self._running, "pace": self._pace, "look": vars(self._session.look)}
        self._post("state", json.dumps(state))

    def _let_go(self) -> None:
        (self._go.set if self._running and not self._held else self._go.clear)()

    async def _changed(self) -> None:
        """Something else is to be seen: time stands still until it is."""
        self._held, self._version = True, self._version + 1
        self._painted.clear()
        await self._told()
        self._wanted.set()

    async def _paint(self) -> None:
        """Pictures: of the present instant, one after the other."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            version, begun = self._version, self._begun
            try:
                picture, message = await self._do(self._picture, version)
            except _Abandoned:
                continue
            except Exception as error:
                async with self._turn:
                    self._running = False
                    self._notice(_words(error))
                    await self._told()
                continue
            if begun != self._begun:
                continue
            self._post("pictures", message)
            if version == self._version:
                self._held = False
                if picture.tick == self._session.cursor:
                    self._painted.set()
                self._let_go()

    def _picture(self, version: int) -> tuple[Picture, bytes]:
        """In a thread."""

        def progress(done: int, total: int) -> None:
            if self._closed or version != self._version:
                raise _Abandoned
            now = time.monotonic()
            if total > 2 and now - self._said > 0.1:
                self._said = now
                text = f"{session.look.world} is stepped from the start: {done} of {total}"
                event = {"type": "progress", "text": text, "share": done / total}
                self._loop.call_soon_threadsafe(self._say, event)

        session, view, beside, began = self._session, dict(self._view), self._beside, time.perf_counter()
        picture = session.paint(progress) if beside is None else session.beside(beside, progress)
        truth = session.truth(beside, picture) if view["compare"] else None
        facts = {"ms": round(1000 * (time.perf_counter() - began)), "noTruth": view["compare"] and truth is None}
        focus = min(view["focus"], len(session.scene.rig.names) - 1)
        return picture, pictures_message(picture, view["view"], truth, focus, **facts)

    async def _obey(self) -> None:
        while True:
            await self._asked.wait()
            self._asked.clear()
            while self._commands:
                command = self._commands.pop(0)
                async with self._turn:
                    try:
                        await getattr(self, f"_on_{command.name}")(**command.fields)
                    except Exception as error:
                        self._notice(_words(error))
                        await self._told()

    async def _on_run(self, on: bool) -> None:
        if on and self._beside is not None:
            self._beside = None
            await self._changed()
        if on and self._session.now.ended_by is not None:
            self._notice("the episode is over: go back, or begin again")
            on = False
        if on and self._held:
            self._wanted.set()  # the picture that time stands still for is tried again if it could not be made
        self._running = on
        await self._told()

    async def _on_step(self) -> None:
        self._running, self._beside = False, None
        await self._one_tick()

    async def _on_pace(self, pace: float) -> None:
        self._pace = pace
        await self._told()

    async def _on_show(self, world: str, memory: Any) -> None:
        await self._do(self._session.show, Look(world, memory))
        await self._changed()

    async def _on_view(self, view: str, compare: bool, focus: int) -> None:
        self._view = {"view": view, "compare": compare, "focus": focus}
        self._wanted.set()

    async def _on_go(self, tick: int) -> None:
        self._running, self._beside = False, None
        await self._do(self._session.go_to, tick)
        await self._changed()

    async def _on_branch(self, number: int) -> None:
        self._running, self._beside = False, None
        await self._do(self._session.switch, number)
        await self._changed()

    async def _on_begin(self, scene: str) -> None:
        await self._begin(scene or self._session.scene.name)

    async def _on_planner(self, name: str) -> None:
        if name:
            await self._do(self._session.hand_over, name)
        else:
            self._session.take_back()
        await self._told()

    async def _on_insert(self, category: str, x: float, y: float, heading: float | None, speed: float) -> None:
        origin = origin_of(self._session.scene)
        await self._do(self._session.insert, category, float(x + origin[0]), float(y + origin[1]), heading, speed)
        await self._changed()

    async def _on_beside(self, forward: float, left: float, up: float, yaw: float) -> None:
        self._running, self._beside = False, (forward, left, up, yaw)
        await self._told()
        self._wanted.set()

    async def _on_save(self) -> None:
        self._running = False
        await self._told()

        def progress(done: int, total: int) -> None:
            if self._closed:
                raise _Abandoned
            text = f"saved; driving it again for the video: {done} of {total}"
            event = {"type": "progress", "text": text, "share": done / total}
            self._loop.call_soon_threadsafe(self._say, event)

        place = await self._do(save, self._session, self._drives.out, progress)
        self._say({"type": "saved", "place": str(place), "text": f"saved in {place}; the recording replays bit for bit"})


def _words(error: BaseException) -> str:
    """An error for the page; where the program is at fault the whole of it goes to stderr."""
    if isinstance(error, DiST4DError | PlannerFailure):
        return str(error)[:1000]
    traceback.print_exception(error)
    return f"that has failed ({type(error).__name__}: {error})"[:1000]
