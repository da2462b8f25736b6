"""The page on loopback: nobody else can ask it, and it asks nobody else."""

import socket
from pathlib import Path

from dash import Dash, Input, Output
from flask import Response, abort, request
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from lightning_taskonomy.errors import InputError, hint
from lightning_taskonomy.reports.page.grouping import GroupingTab
from lightning_taskonomy.reports.page.layout import page
from lightning_taskonomy.reports.page.taxonomy import TaxonomyTab
from lightning_taskonomy.reports.tables import Tables

__all__ = ["make_app", "open_server"]

HOSTS = ("127.0.0.1", "localhost")

INDEX = Path(__file__).with_name("index.html")
"""The page's frame; its style is in ``assets``."""

POLICY = "default-src 'self' 'unsafe-inline' data: blob:"
"""The browser itself refuses every address but the page's own."""


def make_app(tables: Tables) -> Dash:
    """The page as a Dash application; each browser gets a session of its own."""
    app = Dash(
        __name__, title="lightning-taskonomy", update_title="", index_string=INDEX.read_text(encoding="utf-8"),
        assets_folder=str(INDEX.with_name("assets")), serve_locally=True, add_log_handler=False, enable_mcp=False,
    )  # fmt: skip
    app.layout = lambda: page(tables)
    tabs: list[TaxonomyTab | GroupingTab] = []
    if tables.transfers is not None:
        tabs.append(TaxonomyTab(tables))
    if tables.groupings is not None:
        tabs.append(GroupingTab(tables))
    for tab in tabs:
        tab.register(app)
    app.callback(
        output={tab.name: Output(f"{tab.name}-tab", "className") for tab in tabs},
        inputs={"shown": Input("tab", "value")},
    )(lambda shown: {tab.name: "" if tab.name == shown else "away" for tab in tabs})
    app.server.before_request(_only_loopback)
    app.server.after_request(_with_policy)
    return app


def open_server(app: Dash, host: str = "127.0.0.1", port: int = 8050) -> BaseWSGIServer:
    """A server that is ready to ``serve_forever``, a thread per request.

    Args:
        app: The page.
        host: The loopback address.
        port: 0 takes a free one; ``server_port`` of the server is which.

    Raises:
        InputError: The host is not this machine's loopback, or the port is taken.
    """
    if host not in HOSTS:
        raise InputError(f"host {host!r}: the page is served on this machine alone{hint(host, HOSTS)}")
    if not 0 <= port < 2**16:
        raise InputError(f"port {port}: give one of 1 to 65535, or 0 for a free one")
    try:
        listening = socket.create_server((HOSTS[0], port))
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"port {port} cannot be used ({reason}): give another --port, or 0 for a free one") from error
    with listening:
        return make_server(HOSTS[0], port, app.server, threaded=True, request_handler=_Quiet, fd=listening.detach())


class _Quiet(WSGIRequestHandler):
    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Requests are not worth a line."""


def _only_loopback() -> None:
    """Refuses a foreign name that was made to point here (DNS rebinding)."""
    if request.host.partition(":")[0] not in HOSTS:
        abort(421)


def _with_policy(response: Response) -> Response:
    response.headers["Content-Security-Policy"] = POLICY
    return response
