"""The token of the Dagster webserver, the names it answers to, and the isolation of reports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.responses import HTMLResponse, PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from derm_assets.guard import Guard, GuardError, Rules
from derm_assets.login import COOKIE, Login

ROOT = Path(__file__).parents[2]
TOKEN = "0123456789abcdef" * 2
PAGE = {"Accept": "text/html"}
HOSTS = frozenset({"127.0.0.1:3001", "dagster.example"})


async def anything(request):
    return PlainTextResponse(f"{request.method} {request.url.path}?{request.url.query}")


async def report(request):
    headers = {"Content-Security-Policy": "default-src *"}
    return HTMLResponse("<script>1</script>" + request.path_params["path"], headers=headers)


@pytest.fixture
def client():
    def made(token: str = "", base: str = "http://127.0.0.1:3001") -> TestClient:
        app = Starlette(routes=[Route("/{path:path}", anything, methods=["GET", "POST"])])
        reports = Starlette(routes=[Route("/{path:path}", report)])
        return TestClient(Guard(app, Rules(HOSTS, token), reports), base_url=base, follow_redirects=False)

    return made


def log_in(client: TestClient, token: str = TOKEN, target: str = "/runs", **headers: str):
    return client.post("/login", data={"token": token, "next": target}, headers=headers)


def test_without_the_token_nothing_is_shown(client):
    asked = client(TOKEN)
    for path in ("/", "/graphql", "/server_info", "/reports/", "/static/x.js"):
        assert asked.get(path).status_code == 401
        assert asked.get(path, headers={"Authorization": f"Bearer {TOKEN[:-1]}"}).status_code == 401
        assert asked.get(path, headers={"Cookie": f"{COOKIE}={TOKEN}"}).status_code == 401
    assert asked.post("/graphql", json={}).status_code == 401
    ours, socket = {"Origin": "http://127.0.0.1:3001"}, "ws://127.0.0.1:3001/graphql"
    with pytest.raises(WebSocketDisconnect) as refused, asked.websocket_connect(socket, headers=ours):
        pass
    assert "log in" in refused.value.reason


def test_a_program_sends_the_token_in_a_header(client):
    asked = client(TOKEN)
    assert asked.get("/server_info", headers={"Authorization": f"Bearer {TOKEN}"}).text == "GET /server_info?"


def test_a_person_logs_in_and_lands_where_they_wanted(client):
    asked = client(TOKEN)
    form = asked.get('/runs/"><script>1', headers=PAGE)
    assert form.status_code == 401
    assert 'value="/runs/&quot;&gt;&lt;script&gt;1"' in form.text  # a link does not write into the page
    wrong = log_in(asked, "x" * 32)
    assert (wrong.status_code, wrong.headers.get("set-cookie")) == (401, None)
    right = log_in(asked, Origin="http://127.0.0.1:3001")
    assert (right.status_code, right.headers["location"]) == (303, "/runs")
    cookie = right.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=strict"} <= {part.strip() for part in cookie.split(";")}
    assert TOKEN not in cookie
    assert asked.get("/server_info").status_code == 200


def test_behind_tls_the_session_is_never_sent_in_the_clear(client):
    asked = client(TOKEN, "http://dagster.example")
    assert "Secure" in log_in(asked, Origin="https://dagster.example").headers["set-cookie"]


@pytest.mark.parametrize("target", ["//evil.example", "https://evil.example", "/\\evil.example", "", "javascript:x"])
def test_a_login_leads_nowhere_else(client, target):
    assert log_in(client(TOKEN), target=target).headers["location"] == "/"


def test_nobody_is_logged_in_by_another_site(client):
    assert log_in(client(TOKEN), Origin="http://evil.example").status_code == 403


def test_a_session_ends(client, monkeypatch):
    asked = client(TOKEN)
    log_in(asked)
    assert asked.get("/runs").status_code == 200
    monkeypatch.setattr("derm_assets.login.time.time", lambda: 4e9)
    assert asked.get("/runs").status_code == 401


def test_a_new_token_ends_every_session(client):
    old, new = client(TOKEN), client(TOKEN[::-1])
    log_in(old)
    new.cookies.set(COOKIE, old.cookies[COOKIE])
    assert new.get("/runs").status_code == 401


@given(st.text(max_size=80), st.text(max_size=80))
def test_no_made_up_session_is_admitted(until, signature):
    from starlette.requests import HTTPConnection

    cookie = f"{COOKIE}={until}.{signature}".encode("utf-8", "replace")
    scope = {"type": "http", "headers": [(b"cookie", cookie)]}
    assert not Login(TOKEN, "/login").admits(HTTPConnection(scope))


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1", "127.0.0.1:3002", "dagster.example:3001", "", "127.0.0.1:3001.evil.example"]
)
def test_only_its_own_names_are_answered(client, host):
    """A name of the attacker that points to 127.0.0.1 would make every one of its pages same-origin."""
    assert client().get("/", headers={"Host": host}).status_code == 421


def test_its_names_are_not_told_apart_by_case(client):
    assert client().get("/", headers={"Host": "Dagster.Example"}).status_code == 200


def test_a_header_sent_twice_is_refused(client):
    """Of two Origins a proxy may believe one and we the other."""
    twice = [
        ("Origin", "http://127.0.0.1:3001"),
        ("Origin", "http://evil.example"),
        ("Content-Type", "application/json"),
    ]
    assert client().request("POST", "/graphql", headers=twice, content="{}").status_code == 400


@pytest.mark.parametrize("method", ["OPTIONS", "PUT", "PATCH", "DELETE", "TRACE"])
def test_no_other_method_is_used(client, method):
    """OPTIONS is how a browser asks whether a foreign page may send JSON: nobody may."""
    assert client().request(method, "/graphql").status_code == 405


def test_the_page_to_try_queries_opens_without_running_one(client):
    assert client().get("/graphql?query=mutation{x}", headers=PAGE).text == "GET /graphql?"


def test_a_report_is_a_stranger_to_dagster(client):
    """It is HTML about files from outside; its script must not be able to start a run."""
    asked = client()
    assert asked.get("/reports").headers["location"] == "/reports/"
    shown = asked.get("/reports/task/report.html")
    assert shown.text.endswith("task/report.html")
    (policy,) = shown.headers.get_list("content-security-policy")
    assert policy.startswith("sandbox allow-scripts ")
    assert "allow-same-origin" not in policy
    assert "default-src 'none'" in policy
    null = {"Origin": "null", "Content-Type": "application/json"}  # what a sandboxed page is asked as
    assert asked.post("/graphql", content="{}", headers=null).status_code == 403
    elsewhere = asked.get("/reports/../runs", headers=PAGE)
    assert "sandbox" not in elsewhere.headers["content-security-policy"]


def test_a_token_that_can_be_guessed_is_refused():
    with pytest.raises(GuardError, match="openssl rand -hex 32"):
        Rules(HOSTS, "short")


def test_names_of_a_proxy_are_added(monkeypatch):
    monkeypatch.setenv("DERM_DAGSTER_HOSTS", " Dagster.Hospital.example , other:8443")
    rules = Rules.from_environment("127.0.0.1", 3001)
    assert rules.hosts == {
        "127.0.0.1:3001", "localhost:3001", "[::1]:3001", "dagster.hospital.example", "other:8443",
    }  # fmt: skip


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.5", "dagster.example"])
def test_the_network_is_not_let_in_without_a_token(host, monkeypatch):
    monkeypatch.delenv("DERM_DAGSTER_TOKEN", raising=False)
    with pytest.raises(GuardError, match="set DERM_DAGSTER_TOKEN"):
        Rules.from_environment(host, 3001)


def test_a_server_for_everybody_does_not_start(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "derm_assets.webserver", "--host", "0.0.0.0", "--port", "1"],
        cwd=ROOT, env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "DAGSTER_HOME": str(tmp_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1  # one sentence
