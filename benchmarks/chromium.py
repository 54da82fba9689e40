"""A headless Chromium that opens a page, clicks and looks, driven through its DevTools protocol.

Messages go through a pair of pipes (``--remote-debugging-pipe``), so nothing but the standard
library is needed, and no port: https://chromedevtools.github.io/devtools-protocol/.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
"""Path of the browser; None where none is installed."""

# A page of our own in a container: no sandbox to set up, no graphics, nothing asked of a network.
_OPTIONS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
)  # fmt: skip

# Chromium reads commands from file descriptor 3, and answers on 4.
_START = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.dup2(int(sys.argv[2]), 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
_ABOVE = 10  # so that neither end of a pipe is 3 or 4 itself
_LOCAL = ("file:", "data:", "blob:", "about:")


class Browser:
    """One page of a browser of its own, closed at the end of a ``with`` block.

    Attributes
    ----------
    errors
        What scripts threw, and errors on the console.
    requests
        Addresses asked for that are not on this machine, or were refused.
    """

    def __init__(self, profile: Path, *, width: int = 1440, height: int = 1000) -> None:
        if CHROMIUM is None:
            message = "Chromium is not installed"
            raise RuntimeError(message)
        theirs_in, ours_out = os.pipe()
        ours_in, theirs_out = os.pipe()
        theirs = [fcntl.fcntl(end, fcntl.F_DUPFD, _ABOVE) for end in (theirs_in, theirs_out)]
        options = ["--headless", "--remote-debugging-pipe", f"--user-data-dir={profile}", *_OPTIONS]
        self._process = subprocess.Popen(  # noqa: S603 - a fixed command
            [sys.executable, "-c", _START, *map(str, theirs), CHROMIUM, *options],
            pass_fds=theirs,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for end in (theirs_in, theirs_out, *theirs):
            os.close(end)
        self._in, self._out, self._rest, self._last = ours_in, ours_out, b"", 0
        self._session: str | None = None
        self.errors: list[str] = []
        self.requests: list[str] = []
        self._size = (width, height)

    def __enter__(self) -> Self:
        target = self.send("Target.createTarget", url="about:blank")
        attached = self.send("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")
        self.resize(*self._size)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._session = None
        self.send("Browser.close")
        self._process.wait(timeout=20)
        for end in (self._in, self._out):
            os.close(end)

    def send(self, method: str, *, seconds: float = 60, **parameters: Any) -> dict[str, Any]:
        """Give a command; return its answer."""
        self._last += 1
        message: dict[str, Any] = {"id": self._last, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + seconds
        while True:
            answer = self._message(end)
            if answer.get("id") == self._last:
                break
            self._note(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        result: dict[str, Any] = answer["result"]
        return result

    def _message(self, end: float) -> dict[str, Any]:
        while b"\0" not in self._rest:
            if not select.select([self._in], [], [], max(end - time.monotonic(), 0))[0]:
                message = "The browser does not answer"
                raise TimeoutError(message)
            part = os.read(self._in, 1 << 20)
            if not part:
                message = "The browser has ended"
                raise RuntimeError(message)
            self._rest += part
        first, self._rest = self._rest.split(b"\0", 1)
        answer: dict[str, Any] = json.loads(first)
        return answer

    def _note(self, event: dict[str, Any]) -> None:
        """Keep what an event tells of errors and requests."""
        about = event.get("params", {})
        match event.get("method"):
            case "Runtime.exceptionThrown":
                self.errors.append(json.dumps(about["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if about["type"] in {"error", "assert"}:
                self.errors.append(json.dumps(about["args"]))
            case "Log.entryAdded" if about["entry"]["level"] == "error":
                self.errors.append(about["entry"]["text"])
            case "Network.requestWillBeSent" if not about["request"]["url"].startswith(_LOCAL):
                self.requests.append(about["request"]["url"])

    def evaluate(self, expression: str) -> Any:
        """Return the value of an expression on the page, or of the promise that it is."""
        answer = self.send(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(json.dumps(answer["exceptionDetails"]))
        return answer["result"].get("value")

    def wait(self, expression: str, *, seconds: float = 60) -> Any:
        """Return the value of an expression as soon as it is true."""
        end = time.monotonic() + seconds
        while not (value := self.evaluate(expression)):
            if time.monotonic() > end:
                raise TimeoutError(f"{expression} is {value!r} after {seconds} s: {self.errors}")
            time.sleep(0.02)
        return value

    def open(self, page: Path) -> None:
        """Open a file, without waiting for what it draws."""
        self.send("Page.navigate", url=page.resolve().as_uri())

    def resize(self, width: int, height: int) -> None:
        """Give the window another size, in pixels."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=1, mobile=False)  # fmt: skip

    def click(self, x: float, y: float) -> None:
        """Click at a place of the window, in pixels."""
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def picture(self, file: Path) -> Path:
        """Write what is seen as PNG."""
        file.write_bytes(base64.b64decode(self.send("Page.captureScreenshot")["data"]))
        return file
