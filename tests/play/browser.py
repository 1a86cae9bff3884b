"""A headless Chromium, driven by its own debugging protocol."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

CHROMIUM = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)
SLOWEST = 300.0
"""Seconds that anything may take: machines may be busy."""


class Browser:
    """One tab at a time; ``errors`` collects what the page's console complains about, its security policy included."""

    def __init__(self, folder: Path) -> None:
        from websockets.sync.client import connect

        assert CHROMIUM is not None
        self.process = subprocess.Popen(
            [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--enable-unsafe-swiftshader", "--hide-scrollbars",
             "--remote-debugging-port=0", f"--user-data-dir={folder}", "about:blank"],
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stderr is not None
        line = next(line for line in self.process.stderr if "DevTools listening" in line)
        self._address = re.search(r"ws://\S+", line)[0]  # type: ignore[index]
        self._open = connect(self._address, max_size=None)
        self._socket = self._open.__enter__()
        self._number, self._session = 0, ""
        self.errors: list[str] = []

    def open(self, address: str, width: int, height: int, touch: bool = False) -> None:
        """A fresh tab."""
        self.errors.clear()
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._target = target
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=touch)
        if touch:
            self.call("Emulation.setTouchEmulationEnabled", enabled=True)
        self.call("Emulation.setFocusEmulationEnabled", enabled=True)  # keys reach it though an earlier tab may be closing still
        self.call("Page.navigate", url=address)

    def close_tab(self) -> None:
        session, self._session = self._session, ""
        if session:
            self.call("Target.closeTarget", targetId=self._target)

    def call(self, method: str, **parameters: Any) -> Any:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._socket.send(json.dumps(message))
        while True:
            answer = json.loads(self._socket.recv(timeout=SLOWEST))
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            self._note(answer)

    def _note(self, event: dict[str, Any]) -> None:
        given = event.get("params", {})
        if event.get("method") == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(given["exceptionDetails"])[:600])
        elif event.get("method") == "Log.entryAdded" and given["entry"]["level"] in ("error", "warning"):
            if "GPU stall" not in given["entry"]["text"]:  # of drawing without a GPU
                self.errors.append(given["entry"]["text"])
        elif event.get("method") == "Runtime.consoleAPICalled" and given["type"] in ("error", "warning", "assert"):
            self.errors.append(json.dumps(given["args"])[:600])

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{script}: {json.dumps(answer['exceptionDetails'])[:600]}")
        return answer["result"].get("value")

    def wait(self, script: str, what: str = "") -> Any:
        """The first value of an expression that is true; what it names may not be there yet."""
        return waited(lambda: self.run(f"(() => {{ try {{ return {script}; }} catch {{ return false; }} }})()"), what or script)

    def key(self, key: str, down: bool = True, up: bool = True) -> None:
        """Presses a key, by its name in the page."""
        text = key if len(key) == 1 else ""
        if down:
            self.call("Input.dispatchKeyEvent", type="keyDown", key=key, text=text)
        if up:
            self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    def mouse(self, kind: str, x: float, y: float) -> None:
        """kind: "mousePressed", "mouseMoved" or "mouseReleased"."""
        button = "none" if kind == "mouseMoved" else "left"
        self.call(
            "Input.dispatchMouseEvent", type=kind, x=x, y=y, button=button, buttons=int(kind != "mouseReleased"), clickCount=1
        )

    def touch(self, kind: str, *points: tuple[float, float]) -> None:
        """kind: "touchStart", "touchMove" or "touchEnd"."""
        self.call("Input.dispatchTouchEvent", type=kind, touchPoints=[{"x": x, "y": y} for x, y in points])

    def picture(self, path: Path | None = None) -> bytes:
        """A screenshot as PNG."""
        content = base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])
        if path is not None:
            path.write_bytes(content)
        return content

    def close(self) -> None:
        self._open.__exit__(None, None, None)
        self.process.terminate()
        self.process.wait(SLOWEST)


def waited(look: Callable[[], Any], what: str) -> Any:
    """What ``look`` finds, which may take a while."""
    end = time.monotonic() + SLOWEST
    while time.monotonic() < end:
        if found := look():
            return found
        time.sleep(0.05)
    raise AssertionError(f"waited in vain for: {what}")
