"""Dagster as `make dev` starts it, attacked as a web page, a neighbour or a delivery would.

Each exploit is the one that worked on an unguarded webserver: a sensor was started by a page of another site, and by
the name of a delivered file.
"""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from urllib.parse import quote

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.security.conftest import START_SENSOR, TASK, Dagster, wait_until

LOCATION = {"repositoryName": "__repository__", "repositoryLocationName": "derm"}
GET_MUTATION = f"/graphql?query={quote(START_SENSOR)}"
# a file name as it was delivered: opening the asset page started the sensor
BEACON = f"![x](/graphql?query={START_SENSOR}).png"


def ask(dagster: Dagster, method: str, path: str, **options) -> httpx.Response:
    return httpx.request(method, f"{dagster.url}{path}", timeout=60, **options)


def test_its_own_pages_start_and_stop_a_sensor(dagster):
    """The guard must not lock out whom it protects."""
    assert dagster.graphql(START_SENSOR)["startSensor"]["__typename"] == "Sensor"
    assert dagster.sensor == "RUNNING"
    query = "query($s:SensorSelector!){sensorOrError(sensorSelector:$s){...on Sensor{id sensorState{id}}}}"
    found = dagster.graphql(query, s=LOCATION | {"sensorName": f"{TASK.name}_new_images"})["sensorOrError"]
    dagster.graphql("mutation($id:String!){stopSensor(id:$id){__typename}}", id=found["sensorState"]["id"])
    assert dagster.sensor == "STOPPED"
    page = ask(dagster, "GET", "/", headers={"Accept": "text/html", "Sec-Fetch-Site": "none"})
    assert page.status_code == 200
    assert "Dagster" in page.text


@pytest.mark.parametrize(
    "accept", ["*/*", "image/avif,image/webp,*/*;q=0.8", "application/json", "text/html", "text/html,*/*"]
)
def test_no_mutation_runs_by_get(dagster, accept):
    """An image in a page is a GET: `<img src="http://127.0.0.1:3001/graphql?query=mutation…">`."""
    for path in (GET_MUTATION, GET_MUTATION.replace("graphql", "%67raphql")):
        ask(dagster, "GET", path, headers={"Accept": accept})
        ask(dagster, "HEAD", path, headers={"Accept": accept})
    assert dagster.sensor == "STOPPED"


@pytest.mark.parametrize(
    ("why", "headers", "status"),
    [
        ("another site", {"Origin": "https://evil.example"}, 403),
        ("another port of this machine", {"Origin": "http://127.0.0.1:1"}, 403),
        ("a name that only looks like ours", {"Origin": "{url}.evil.example"}, 403),
        ("a sandboxed page or a report", {"Origin": "null"}, 403),
        ("an older browser that sends no origin", {"Referer": "https://evil.example/page"}, 403),
        ("a newer browser", {"Sec-Fetch-Site": "cross-site"}, 403),
        ("the same machine, another port", {"Sec-Fetch-Site": "same-site"}, 403),
        ("DNS rebinding", {"Host": "evil.example:3001", "Origin": "http://evil.example:3001"}, 421),
        ("a form", {"Content-Type": "text/plain"}, 415),
        ("a form with a query in its address", {"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ("a type without JSON", {"Content-Type": "application/graphql"}, 415),
        ("a type that only contains it", {"Content-Type": "text/plain; application/json"}, 415),
    ],
)
def test_a_foreign_page_starts_nothing(dagster, why, headers, status):
    headers = {"Content-Type": "application/json"} | {n: v.replace("{url}", dagster.url) for n, v in headers.items()}
    answer = ask(dagster, "POST", GET_MUTATION, content=json.dumps({"query": START_SENSOR}), headers=headers)
    assert answer.status_code == status, why
    assert len(answer.text.splitlines()) == 1  # one sentence
    assert dagster.sensor == "STOPPED"


def test_no_foreign_page_reports_a_materialisation(dagster):
    """Dagster's own endpoint takes it from a form: a forged model would look materialised."""
    path = f"/report_asset_materialization/{TASK.name}/model?description=forged"
    assert ask(dagster, "POST", path, data={"a": "b"}).status_code == 415
    assert ask(dagster, "POST", path, json={}, headers={"Origin": "http://localhost:1"}).status_code == 403


def test_no_other_page_frames_it_or_reads_from_it(dagster):
    for headers in ({"Sec-Fetch-Dest": "iframe", "Sec-Fetch-Mode": "navigate"}, {"Sec-Fetch-Dest": "image"}):
        assert ask(dagster, "GET", "/", headers={"Sec-Fetch-Site": "cross-site"} | headers).status_code == 403
    linked = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    page = ask(dagster, "GET", "/runs", headers=linked | {"Accept": "text/html"})  # a link in a chat works
    assert page.status_code == 200
    policies = page.headers.get_list("content-security-policy")
    assert any("frame-ancestors 'none'" in policy for policy in policies)
    assert any("strict-dynamic" in policy for policy in policies)  # Dagster's own stays
    assert page.headers["x-frame-options"] == "DENY"
    assert page.headers.get_list("x-content-type-options") == ["nosniff"]


@pytest.mark.parametrize("origin", ["http://evil.example", "http://127.0.0.1:1", "null", None])
def test_no_foreign_page_subscribes(dagster, origin):
    """A WebSocket asks no permission across origins: logs of runs, which name files, could be read by any page."""
    address = dagster.url.replace("http", "ws") + "/graphql"
    with pytest.raises(InvalidStatus) as refused:
        connect(address, origin=origin, subprotocols=["graphql-ws"])
    assert refused.value.response.status_code == 403


def test_its_own_page_subscribes(dagster):
    with connect(f"{dagster.url.replace('http', 'ws')}/graphql", origin=dagster.url, subprotocols=["graphql-ws"]) as ws:
        ws.send('{"type": "connection_init"}')
        assert json.loads(ws.recv())["type"] == "connection_ack"


ATTACK = """<!doctype html><title>attacking</title><body>
<iframe name="hidden"></iframe>
<form method="post" action="{url}/graphql?query={query}" target="hidden" enctype="text/plain"><input name="a"></form>
<img src="{url}/graphql?query={query}"><iframe src="{url}/graphql?query={query}"></iframe>
<script src="{url}/graphql?query={query}"></script>
<script>
const url = "{url}/graphql", body = JSON.stringify({query: decodeURIComponent("{query}")}), done = [];
const tried = p => p.then(() => "answered", () => "refused");
(async () => {
  document.forms[0].submit();
  await tried(fetch(url + "?query={query}", {mode: "no-cors", credentials: "include"}));
  for (const type of ["text/plain", "application/x-www-form-urlencoded"])
    await tried(fetch(url, {method: "POST", mode: "no-cors", headers: {"Content-Type": type}, body}));
  done.push(await tried(fetch(url, {method: "POST", headers: {"Content-Type": "application/json"}, body})));
  done.push(await new Promise(end => {
    const socket = new WebSocket(url.replace("http", "ws"), "graphql-ws");
    socket.onopen = () => end("answered"); socket.onerror = () => end("refused");
  }));
  done.push(open(url + "?query={query}") ? "opened" : "blocked");
  setTimeout(() => document.title = done.join(), 1500);
})();
</script>"""


@pytest.fixture
def foreign_site(dagster) -> Iterator[str]:
    """A web page of another origin on this machine; its address."""
    page = ATTACK.replace("{url}", dagster.url).replace("{query}", quote(START_SENSOR)).encode()

    class Site(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


def test_a_web_page_in_the_users_browser_starts_nothing(dagster, foreign_site, browser):
    page = browser.new_page()
    page.goto(foreign_site)
    page.wait_for_function("document.title != 'attacking'", timeout=60_000)
    assert page.title().startswith("refused,refused")
    assert dagster.sensor == "STOPPED"
    page.close()


LAUNCH = """mutation($run: ExecutionParams!) { launchRun(executionParams: $run) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
EVENTS = """query($id: ID!) { runOrError(runId: $id) { ... on Run { status stats { __typename }
  assetMaterializations { metadataEntries { __typename label
    ... on MarkdownMetadataEntry { mdStr } ... on TableMetadataEntry { table { records } } } } } } }"""


@pytest.fixture(scope="session")
def delivered(dagster) -> dict:
    """A batch with a junk file of a hostile name, taken in by a run that the daemon started; its metadata."""
    batch = dagster.folder / "data" / "incoming" / TASK.name / "monday"
    TASK.draw(dagster.folder / "drawn", 12, seed=1)
    images = sorted((dagster.folder / "drawn").rglob("*.jpg"))
    batch.mkdir(parents=True)
    for image in images:
        image.rename(batch / image.name)
    rows = "".join(f"{image.name},nevus\n" for image in images)
    (batch / "labels.csv").write_text(f"filename,label\n{rows}")
    junk = batch / BEACON
    junk.parent.mkdir(parents=True)
    junk.write_bytes(b"not an image")
    adding = """mutation($r: RepositorySelector!, $d: String!, $k: String!) {
      addDynamicPartition(repositorySelector: $r, partitionsDefName: $d, partitionKey: $k) { __typename } }"""
    added = dagster.graphql(adding, r=LOCATION, d=f"{TASK.name}_batches", k="monday")["addDynamicPartition"]
    assert added["__typename"] == "AddDynamicPartitionSuccess"
    selector = LOCATION | {"jobName": f"{TASK.name}_prepare"}
    selector |= {"assetSelection": [{"path": [TASK.name, "incoming_batch"]}]}
    tags = [{"key": "dagster/partition", "value": "monday"}]
    run = {"selector": selector, "runConfigData": {}, "executionMetadata": {"tags": tags}, "mode": "default"}
    launched = dagster.graphql(LAUNCH, run=run)["launchRun"]
    assert launched["__typename"] == "LaunchRunSuccess", launched

    def status() -> str:
        return dagster.graphql(EVENTS, id=launched["run"]["runId"])["runOrError"]["status"]

    wait_until(lambda: status() in ("SUCCESS", "FAILURE", "CANCELED"), 240)
    found = dagster.graphql(EVENTS, id=launched["run"]["runId"])["runOrError"]
    assert found["status"] == "SUCCESS"
    return {entry["label"]: entry for entry in found["assetMaterializations"][0]["metadataEntries"]}


def test_a_file_name_is_stored_as_text(delivered):
    assert not [entry for entry in delivered.values() if entry["__typename"] == "MarkdownMetadataEntry"]
    records = [json.loads(record) for record in delivered["left_out"]["table"]["records"]]
    assert any(BEACON in record["file"] for record in records)  # and named, whole


def test_opening_the_asset_page_starts_nothing(dagster, delivered, browser):
    """Before, whoever looked at what a stranger had delivered started a sensor without a click."""
    page = browser.new_page(viewport={"width": 1500, "height": 2000})
    asked = []
    page.on("request", lambda request: asked.append((request.method, request.url)))
    for view in ("overview", "events", "checks"):
        page.goto(f"{dagster.url}/assets/{TASK.name}/incoming_batch?view={view}")
        if view != "checks":
            page.get_by_text("startSensor").first.wait_for(timeout=60_000)  # it is shown
        page.wait_for_load_state("networkidle")
    assert not [url for method, url in asked if method == "GET" and "mutation" in url]
    assert not [url for _, url in asked if not url.startswith((dagster.url, "data:", "blob:"))]  # nor anybody told
    assert dagster.sensor == "STOPPED"
    page.close()
