"""The server: read only, for this machine alone."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import signal
from collections.abc import Awaitable, Callable
from functools import partial
from importlib.resources import files
from typing import Any

from aiohttp import web

from orchestrator.dashboard import pages
from orchestrator.dashboard.reading import Reader
from orchestrator.errors import OrchestratorError
from orchestrator.record.folder import Root, RunFolder
from orchestrator.record.journal import read_events
from orchestrator.reports.html import asset, report_html
from orchestrator.reports.state import state_json
from orchestrator.reports.summary import report_json

LOOPBACK = "127.0.0.1"
NAMES = ("127.0.0.1", "localhost", "[::1]")
"""What a browser on this machine, or at the end of a forwarded port, calls this server."""
EVENTS_MAX = 10_000
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
READER = web.AppKey("reader", Reader)
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
STATIC = {
    "live.js": "text/javascript",
    "sort.js": "text/javascript",
    "report.css": "text/css",
    "dashboard.css": "text/css",
    "icon.svg": "image/svg+xml",
}


async def serve(root: Root, port: int, announce: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        root: The folder that holds `runs/`.
        port: On the loopback address; 0 takes a free one.
        announce: Receives the address once the server answers.

    Raises:
        OrchestratorError: The port is taken.
    """
    runner = web.AppRunner(make_app(root), access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, LOOPBACK, port)
        try:
            await site.start()
        except OSError as error:
            raise OrchestratorError(f"port {port} cannot be used: {error.strerror}", "--port 0 takes a free one") from error
        announce(f"http://{LOOPBACK}:{runner.addresses[0][1]}")
        ended = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, ended.set)
        await ended.wait()
    finally:
        await runner.cleanup()


def make_app(root: Root) -> web.Application:
    """The routes over a root."""
    app = web.Application(middlewares=[guard])
    app[READER] = Reader(root)
    run, trial = "/runs/{run}", "/runs/{run}/trials/{trial}"
    app.router.add_get("/", show_runs)
    app.router.add_get("/live", partial(show_runs, fragment=True))
    for base in (run, trial):
        app.router.add_get(base, show_run)
        app.router.add_get(f"{base}/live", partial(show_run, fragment=True))
        app.router.add_get(f"{base}/report", show_report)
        app.router.add_get(f"/api{base}", tell_run)
        app.router.add_get(f"/api{base}/events", tell_events)
    app.router.add_get("/api/runs", tell_runs)
    app.router.add_get("/static/{name}", send_static)
    return app


@web.middleware
async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answers only under names of this machine, so that no page elsewhere can read through a name it controls."""
    name = request.host.rpartition(":")[0] if not request.host.endswith("]") and ":" in request.host else request.host
    if name not in NAMES:
        return web.Response(status=421, text="this server answers only to localhost\n", headers=HEADERS)
    try:
        response = await handler(request)
    except web.HTTPException as error:
        error.headers.update(HEADERS)
        raise
    for header, value in HEADERS.items():
        response.headers.setdefault(header, value)
    return response


async def show_runs(request: web.Request, *, fragment: bool = False) -> web.Response:
    reader = request.app[READER]
    states = await asyncio.to_thread(reader.states)
    body = pages.runs_fragment(states) if fragment else pages.runs_page(reader.root.path, states)
    return _page(request, body, hashlib.sha256(body.encode()).hexdigest()[:16])


async def show_run(request: web.Request, *, fragment: bool = False) -> web.Response:
    reader, folder = request.app[READER], await _find(request)
    version = await asyncio.to_thread(reader.version, folder)
    if fragment and _known(request, version):
        return web.Response(status=304)
    view = await asyncio.to_thread(reader.view, folder)
    return _page(request, pages.run_fragment(view) if fragment else pages.run_page(view), view.version)


async def show_report(request: web.Request) -> web.Response:
    """The report of the moment, made from the run folder, with its own script and nothing else."""
    reader = request.app[READER]
    view = await asyncio.to_thread(reader.view, await _find(request))
    script = base64.b64encode(hashlib.sha256(asset("sort.js").encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{script}'; frame-ancestors 'none'"
    body = await asyncio.to_thread(report_html, view.state.report, view.mistakes)
    return web.Response(text=body, content_type="text/html", headers={"Content-Security-Policy": policy})


async def tell_runs(request: web.Request) -> web.Response:
    states = await asyncio.to_thread(request.app[READER].states)
    return web.json_response([state_json(state) for state in states])


async def tell_run(request: web.Request) -> web.Response:
    state = await asyncio.to_thread(request.app[READER].state, await _find(request))
    return web.json_response(report_json(state.report) | state_json(state))


async def tell_events(request: web.Request) -> web.Response:
    """The newest events in their order; `?limit=N` of them, 1,000 when it is left out."""
    asked = request.query.get("limit", "1000")
    if not (asked.isascii() and asked.isdigit() and 0 < int(asked) <= EVENTS_MAX):
        raise web.HTTPBadRequest(text=f"limit is a number from 1 to {EVENTS_MAX}\n")
    folder = await _find(request)
    events: list[dict[str, Any]] = await asyncio.to_thread(read_events, folder.events)
    return web.json_response(events[-int(asked) :])


async def send_static(request: web.Request) -> web.Response:
    name = request.match_info["name"]
    if name not in STATIC:
        raise web.HTTPNotFound(text="no such file\n")
    text = asset(name) if name in ("sort.js", "report.css") else files("orchestrator.dashboard").joinpath("static", name).read_text("utf-8")
    return web.Response(text=text, content_type=STATIC[name])


async def _find(request: web.Request) -> RunFolder:
    run, trial = request.match_info["run"], request.match_info.get("trial", "")
    folder = await asyncio.to_thread(request.app[READER].find, run, trial)
    if folder is not None:
        return folder
    what = f"no run named {run}" + (f" with a trial {trial}" if trial else "")
    if request.path.startswith("/api/"):
        raise web.HTTPNotFound(text=f"{what}\n")
    raise web.HTTPNotFound(text=pages.missing_page(what), content_type="text/html", headers={"Content-Security-Policy": PAGE_POLICY})


def _known(request: web.Request, version: str) -> bool:
    return request.headers.get("If-None-Match") == f'"{version}"'


def _page(request: web.Request, body: str, version: str) -> web.Response:
    if _known(request, version):
        return web.Response(status=304)
    return web.Response(text=body, content_type="text/html", headers={"Content-Security-Policy": PAGE_POLICY, "ETag": f'"{version}"'})
