"""The server: a page, and a drive over a WebSocket for each that opens it. Loopback only, with a token in the address."""

from __future__ import annotations

import hmac
import json
from importlib.resources import files

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from dist4d_env.play.drive import Drive, Drives

HOSTS = ("127.0.0.1", "localhost")
PAGE = {
    "": ("dist4d_env.play", "page/index.html", "text/html"),
    "play.css": ("dist4d_env.play", "page/play.css", "text/css"),
    "play.js": ("dist4d_env.play", "page/play.js", "text/javascript"),
    "input.js": ("dist4d_env.play", "page/input.js", "text/javascript"),
    "cloud.js": ("dist4d_env.play", "page/cloud.js", "text/javascript"),
    "drawing.js": ("dist4d_env.evaluation.report", "drawing.js", "text/javascript"),
}
"""What the page consists of: package, file and kind."""
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
REFUSED = "wrong or missing token: open the whole address that play has printed\n"
POLICY_VIOLATION, TRY_AGAIN = 1008, 1013


def application(drives: Drives, token: str) -> Starlette:
    """The ASGI application. token: the first part of every path."""

    def known(connection: Request | WebSocket) -> bool:
        return hmac.compare_digest(str(connection.path_params["token"]).encode(), token.encode())

    async def page(request: Request) -> Response:
        if not known(request):
            return PlainTextResponse(REFUSED, 403, HEADERS)
        wanted = PAGE.get(request.path_params.get("name", ""))
        if wanted is None:
            return PlainTextResponse("there is nothing of that name here\n", 404, HEADERS)
        package, name, kind = wanted
        return Response(files(package).joinpath(name).read_bytes(), 200, HEADERS, kind)

    async def refuse(request: Request) -> Response:
        return PlainTextResponse(REFUSED, 403, HEADERS)

    async def drive(socket: WebSocket) -> None:
        if not known(socket) or socket.headers.get("origin") not in (None, f"http://{socket.headers.get('host')}"):
            await socket.close(POLICY_VIOLATION)
            return
        await socket.accept()
        refusal = drives.refusal()
        if refusal is None:
            await Drive(drives, socket).run()
        else:
            await socket.send_text(json.dumps({"type": "notice", "text": refusal, "last": True}))
            await socket.close(TRY_AGAIN)

    routes = [
        WebSocketRoute("/{token}/drive", drive),
        Route("/{token}/", page),
        Route("/{token}/{name}", page),
        Route("/{anything:path}", refuse),
    ]
    return Starlette(routes=routes, middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=list(HOSTS), www_redirect=False)])
