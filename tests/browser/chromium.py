"""A real browser without a window, driven by its own protocol (https://chromedevtools.github.io/devtools-protocol/)."""

from __future__ import annotations

import asyncio
import base64
import itertools
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import aiohttp

PROGRAM = shutil.which("chromium")
DEADLINE_S = 30


class Browser:
    """One page.

    Args:
        folder: For the browser's own files.
    """

    def __init__(self, folder: Path) -> None:
        assert PROGRAM is not None
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1320,1000"]
        command = [PROGRAM, *options, "--remote-debugging-port=0", f"--user-data-dir={folder}", "about:blank"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.loop = asyncio.Runner()
        self.numbers = itertools.count(1)
        self.said: list[dict[str, Any]] = []
        """Everything that the browser told without being asked."""
        port = self._port(folder / "DevToolsActivePort")
        self.session, self.socket = self.loop.run(_connect(port))
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def _port(self, file: Path) -> int:
        deadline = time.monotonic() + DEADLINE_S
        while not (file.exists() and file.read_text().strip()):
            assert time.monotonic() < deadline, "the browser did not start"
            time.sleep(0.05)
        return int(file.read_text().split()[0])

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self.loop.run(self._call(method, parameters))

    async def _call(self, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
        number = next(self.numbers)
        await self.socket.send_json({"id": number, "method": method, "params": parameters})
        while True:
            message = await asyncio.wait_for(self.socket.receive_json(), DEADLINE_S)
            if message.get("id") == number:
                assert "error" not in message, message
                return dict(message["result"])
            self.said.append(message)

    def open(self, address: str) -> None:
        """Load a page to the end."""
        self.call("Page.navigate", url=address)
        self.wait_for("document.readyState === 'complete' && location.href !== 'about:blank'")

    def evaluate(self, expression: str) -> Any:
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait_for(self, expression: str) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not self.evaluate(expression):
            assert time.monotonic() < deadline, expression
            time.sleep(0.05)

    def screenshot(self, file: Path) -> None:
        """The whole page as a PNG."""
        file.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]))

    def complaints(self) -> list[str]:
        """Errors of scripts, and what the page's policy forbade."""
        errors = [message["params"] for message in self.said if message["method"] in ("Runtime.exceptionThrown", "Log.entryAdded")]
        return [str(error) for error in errors]

    def requested(self) -> list[str]:
        """Addresses of everything that was loaded."""
        return [message["params"]["request"]["url"] for message in self.said if message["method"] == "Network.requestWillBeSent"]

    def close(self) -> None:
        self.loop.run(_disconnect(self.session, self.socket))
        self.loop.close()
        self.process.terminate()
        self.process.wait(DEADLINE_S)


async def _connect(port: int) -> tuple[aiohttp.ClientSession, aiohttp.ClientWebSocketResponse]:
    session = aiohttp.ClientSession()
    async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
        (page,) = [target for target in await answer.json() if target["type"] == "page"]
    return session, await session.ws_connect(page["webSocketDebuggerUrl"], max_msg_size=0)


async def _disconnect(session: aiohttp.ClientSession, socket: aiohttp.ClientWebSocketResponse) -> None:
    await socket.close()
    await session.close()
