"""``serve``: the interactive solver page."""

from __future__ import annotations

from pathlib import Path

from lightning_taskonomy.errors import InputError

__all__ = ["serve"]


def serve(
    measurements: Path,
    groupings: Path | None = None,
    tasks: list[str] | None = None,
    port: int = 8050,
    host: str = "127.0.0.1",
) -> None:
    """Decide under a budget in the browser: a page on this machine alone, without the internet.

    Args:
        measurements: A study's folder, a table of transfers, or a table of groupings.
        groupings: A table of groupings, for the second tab.
        tasks: The names of the columns, for a table of groupings without a header.
        port: The port; 0 takes a free one.
        host: The loopback address; no other is served.
    """
    try:
        from lightning_taskonomy.reports.page.server import make_app, open_server
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("dash"):
            raise
        raise InputError('the page needs an extra: pip install "lightning-taskonomy[page]"') from error
    from lightning_taskonomy.reports.tables import read_tables

    server = open_server(make_app(read_tables(measurements, groupings, tasks)), host, port)
    print(f"http://{server.host}:{server.port}/  (Ctrl+C ends it)", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print()
    finally:
        server.server_close()
