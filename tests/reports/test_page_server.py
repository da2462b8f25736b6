"""Where the page is served: on loopback alone, under its own name alone, with words for what goes wrong."""

import re
import socket
import sys
import threading
import urllib.request

import pytest

from lightning_taskonomy.cli import main
from lightning_taskonomy.errors import InputError

pytest.importorskip("dash", reason="the extra 'page' is not installed")

from lightning_taskonomy.affinity.groupings import GroupingsTable, Network
from lightning_taskonomy.reports.figures.style import INK
from lightning_taskonomy.reports.page.server import make_app, open_server
from lightning_taskonomy.reports.tables import Tables


@pytest.fixture(scope="module")
def app():
    table = GroupingsTable(("a", "b"), (Network(("a", "b"), 1.0, (0.1, 0.2)),))
    return make_app(Tables(title="table.tsv", groupings=table))


def test_it_answers_on_loopback(app):
    server = open_server(app, port=0)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        assert server.socket.getsockname()[0] == "127.0.0.1"
        with urllib.request.urlopen(f"http://{server.host}:{server.port}/", timeout=10) as answer:
            assert answer.status == 200 and b"lightning-taskonomy" in answer.read()
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.2", "example.org"])
def test_another_host_is_refused(app, host):
    with pytest.raises(InputError, match="on this machine alone"):
        open_server(app, host=host, port=0)


def test_a_port_in_use_is_named(app):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"port {port} cannot be used"):
            open_server(app, port=port)
    with pytest.raises(InputError, match="port 70000"):
        open_server(app, port=70000)


@pytest.mark.parametrize("name", ["evil.example", "evil.example:8050", "127.0.0.1.evil.example"])
def test_a_foreign_name_for_this_machine_is_refused(app, name):
    client = app.server.test_client()
    assert client.get("/", headers={"Host": name}).status_code == 421
    assert client.get("/", headers={"Host": "localhost:8050"}).status_code == 200


def test_the_browser_is_told_to_ask_nobody_else(app):
    answer = app.server.test_client().get("/", headers={"Host": "127.0.0.1"})
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'self'") and "http" not in policy
    assert "http://" not in answer.text and "https://" not in answer.text


def test_without_the_extra_it_says_what_to_install(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "dash", None)
    for name in [name for name in sys.modules if name.startswith("lightning_taskonomy.reports.page.")]:
        monkeypatch.delitem(sys.modules, name)
    assert main(["serve", str(tmp_path / "table.csv")]) == 1
    message = capsys.readouterr().err
    assert 'pip install "lightning-taskonomy[page]"' in message and len(message.strip().splitlines()) == 1


def test_a_missing_file_is_one_line(capsys, tmp_path):
    assert main(["serve", str(tmp_path / "nothing.csv")]) == 1
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_its_style_is_a_file_of_the_page_in_the_figures_ink(app):
    client = app.server.test_client()
    page = client.get("/", headers={"Host": "127.0.0.1"}).text
    (address,) = re.findall(r'href="(/assets/page\.css[^"]*)"', page)
    with client.get(address, headers={"Host": "127.0.0.1"}) as style:
        assert style.status_code == 200 and f"--ink: {INK};" in style.text
    assert '<html lang="en">' in page and "{%" not in page
