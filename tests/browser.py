"""A headless Chromium that tests drive over its debugging pipe.

The protocol (https://chromedevtools.github.io/devtools-protocol) is JSON with a zero
byte after each message, on the descriptors 3 and 4 of the browser.
"""

import base64
import fcntl
import itertools
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_TIMEOUT = 60.0
_OPTIONS = (
    "--headless",
    "--remote-debugging-pipe",
    "--no-first-run",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--hide-scrollbars",
)


def chromium() -> str | None:
    """Find a Chromium: what SJ_EXT_CHROMIUM names, else one on the path."""
    named = os.environ.get("SJ_EXT_CHROMIUM")
    return named or next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One page of a browser.

    Attributes:
        complaints: What the page has logged as a warning or an error, or thrown.
        requests: Addresses that it has asked for.
    """

    def __init__(self, program: str, profile: Path) -> None:
        theirs, self._to = os.pipe()
        self._from, ours = os.pipe()
        # Clear of 3 and 4, which they become in the browser.
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (theirs, ours)]

        def place() -> None:
            for end, number in zip(ends, (3, 4), strict=True):
                os.dup2(end, number)

        options = [*_OPTIONS, f"--user-data-dir={profile}"]
        if os.geteuid() == 0:  # Chromium's sandbox refuses root
            options.append("--no-sandbox")
        self._process = subprocess.Popen(
            [program, *options, "about:blank"],
            pass_fds=(3, 4),
            preexec_fn=place,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for end in (theirs, ours, *ends):
            os.close(end)
        self._numbers = itertools.count(1)
        self._rest = b""
        self._session: str | None = None
        self.complaints: list[str] = []
        self.requests: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def close(self) -> None:
        """End the browser."""
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._to)
        os.close(self._from)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol and wait for its result."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            found = self._read()
            if found.get("id") == number:
                if "error" in found:
                    raise RuntimeError(f"{method}: {found['error']}")
                return found["result"]

    def show(self, page: Path, width: int = 1280, scheme: str = "light") -> None:
        """Open a file in a window of a width, in the light or the dark scheme."""
        self.complaints.clear()
        self.requests.clear()
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=800,
            deviceScaleFactor=1,
            mobile=False,
        )
        self.call(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": scheme}],
        )
        self.call("Page.navigate", url=page.resolve().as_uri())
        end = time.monotonic() + _TIMEOUT
        while self.run("document.readyState") != "complete":
            assert time.monotonic() < end, f"{page} did not load"

    def run(self, expression: str) -> Any:
        """Evaluate JavaScript in the page."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in found:
            raise RuntimeError(f"{expression}: {found['exceptionDetails']}")
        return found["result"].get("value")

    def point(self, selector: str, click: bool = False) -> None:
        """Move the mouse to the middle of an element, and click if asked to."""
        place = self.run(
            f"""(() => {{
              const it = document.querySelector({json.dumps(selector)});
              it.scrollIntoView({{block: "center", inline: "center"}});
              const box = it.getBoundingClientRect();
              return [box.x + box.width / 2, box.y + box.height / 2];
            }})()"""
        )
        where = dict(zip("xy", place, strict=True))
        self.call("Input.dispatchMouseEvent", type="mouseMoved", **where)
        if click:
            button = {"button": "left", "clickCount": 1, **where}
            self.call("Input.dispatchMouseEvent", type="mousePressed", **button)
            self.call("Input.dispatchMouseEvent", type="mouseReleased", **button)

    def press(self, key: str) -> None:
        """Press a key where the focus is."""
        about: dict[str, Any] = {"key": key, "code": key}
        if key == "Enter":
            about |= {"text": "\r", "windowsVirtualKeyCode": 13}
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, **about)

    def screenshot(self) -> bytes:
        """Take the whole page as PNG."""
        found = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        return base64.b64decode(found["data"])

    def pdf(self) -> bytes:
        """Print the page."""
        found = self.call("Page.printToPDF", printBackground=True)
        return base64.b64decode(found["data"])

    def _read(self) -> dict[str, Any]:
        end = time.monotonic() + _TIMEOUT
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._from], [], [], end - time.monotonic())
            found = os.read(self._from, 2**20) if ready else b""
            if not found:
                raise RuntimeError("The browser has ended or does not answer.")
            self._rest += found
        message, _, self._rest = self._rest.partition(b"\0")
        event: dict[str, Any] = json.loads(message)
        self._note(event.get("method"), event.get("params", {}))
        return event

    def _note(self, method: str | None, about: dict[str, Any]) -> None:
        if method == "Runtime.exceptionThrown":
            self.complaints.append(str(about["exceptionDetails"]))
        elif method == "Log.entryAdded" and about["entry"]["level"] != "info":
            self.complaints.append(str(about["entry"]))
        elif method == "Runtime.consoleAPICalled" and about["type"] in (
            "error",
            "warning",
            "assert",
        ):
            self.complaints.append(str(about["args"]))
        elif method == "Network.requestWillBeSent":
            self.requests.append(about["request"]["url"])
