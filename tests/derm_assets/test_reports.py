"""Links in Dagster open in the browser: over HTTP, below the output folder, and nothing else of the machine."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from derm_assets.reports import link, reports_app


@pytest.fixture
def out(places) -> Path:
    folder = Path(places.out) / "lesion_classification" / "strong-1"
    folder.mkdir(parents=True)
    for name in ("report.html", "a map #1.html", "heatmaps.png", "rows.csv", "weights.safetensors", ".hidden.html"):
        (folder / name).write_text(name)
    (Path(places.out).parent / "secret.html").write_text("secret")
    (folder / "linked.html").symlink_to(Path(places.out).parent / "secret.html")
    return folder


@pytest.fixture
def browser(places) -> TestClient:
    return TestClient(Starlette(routes=[Mount("/reports", reports_app(places))]), follow_redirects=False)


@pytest.mark.parametrize("name", ["report.html", "a map #1.html", "heatmaps.png", "rows.csv"])
def test_a_link_opens_what_it_names(out, places, browser, name):
    found = link(places, out / name)
    assert isinstance(found, dg.UrlMetadataValue)
    answer = browser.get(found.value)
    assert (answer.status_code, answer.text) == (200, name)


def test_a_report_is_shown_and_kept_to_itself(out, places, browser):
    answer = browser.get(link(places, out / "report.html").value)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"].startswith("sandbox allow-scripts ")
    assert "allow-same-origin" not in answer.headers["content-security-policy"]


@pytest.mark.parametrize(
    "path",
    ["../secret.html", "%2e%2e/secret.html", "..%2fsecret.html", "lesion_classification/../../secret.html",
     "lesion_classification/strong-1/linked.html", "lesion_classification/strong-1/weights.safetensors",
     "lesion_classification/strong-1/.hidden.html", "lesion_classification/strong-1", "", "%00.html",
     "/etc/hostname", "//etc/hostname.html"],
)  # fmt: skip
def test_nothing_else_is_served(out, browser, path):
    answer = browser.get(f"/reports/{path}")
    assert answer.status_code in (404, 405)
    assert "secret" not in answer.text


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_nothing_can_be_changed(out, browser, method):
    answer = browser.request(method, "/reports/lesion_classification/strong-1/report.html")
    assert answer.status_code == 405
    assert (out / "report.html").read_text() == "report.html"


def test_what_is_not_served_is_a_path(out, places, tmp_path):
    """A dead link is worse than none."""
    for path in (out / "weights.safetensors", tmp_path / "secret.html", out / "linked.html"):
        assert link(places, path) == dg.MetadataValue.path(path)


def test_another_server_of_the_same_folder_can_be_named(out, places, monkeypatch):
    monkeypatch.setenv("DERM_REPORTS_URL", "https://reports.clinic.example/derm/")
    wanted = "https://reports.clinic.example/derm/lesion_classification/strong-1/report.html"
    assert link(places, out / "report.html").value == wanted


def test_no_link_is_a_file_of_one_machine():
    """The browser refuses `file://` from a page, without a word."""
    sources = (Path(__file__).parents[2] / "derm_assets").rglob("*.py")
    assert not [p.name for p in sources if "as_uri()" in p.read_text() and p.name != "mlflow_runs.py"]
