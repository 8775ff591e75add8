"""The built Bento, for real: built offline, served by BentoML in processes of its own, replayed, loaded, stopped.

About half a minute: one build, two starts.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

import psutil
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from derm_assets.packaging import PackagingError, build_bento, release, replay, replayed, running
from derm_ml.asking.replay import Upload
from derm_ml.bundles.bundle import LEARNED, LEFT_OUT, MODEL, Bundle, BundleError, copy_to_serve
from derm_ml.bundles.classifier import Classifier
from derm_ml.images.decode import decode
from derm_ml.model_folder import ModelFolder
from derm_ml.registry import get_task
from serving.build import PACKAGES
from serving.image import CannotPack, refuse_different
from serving.launch import serve_command, serve_environment
from serving.released import bento_home

pytestmark = pytest.mark.slow

TASK = "lesion_classification"
ROOT = Path(__file__).parents[2]
RAW = {"Content-Type": "application/octet-stream"}


@pytest.fixture(scope="module")
def tag(indexed, tmp_path_factory):
    """A built Bento with its index of similar images, in a home of its own."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DERM_HOME", str(home))
        patch.setenv("BENTOML_HOME", str(home / "bentoml"))
        patch.delenv("DERM_TOKEN", raising=False)
        yield build_bento(TASK, indexed, mlflow_version="7", index=ModelFolder.holding(indexed).index)


@pytest.fixture(scope="module")
def port(tag):
    """Where the built Bento is served."""
    with running(TASK, tag) as port:
        yield port


@pytest.fixture(scope="module")
def cases(bundle, encode) -> list[Upload]:
    predictor = Classifier(bundle)

    def case(quality: int) -> Upload:
        data = encode("JPEG", quality=quality)
        said = predictor([decode(data)]).probabilities[0]
        expected = {label: float(p) for label, p in zip(predictor.labels, said, strict=True)}
        return Upload(
            f"image-{quality}", data, expected, query=get_task(TASK).asking.facts({"age": 60.0, "site": "arm"})
        )

    return [case(quality) for quality in (20, 50, 80, 95)]


def test_the_built_service_answers_what_the_evaluation_said(tag, cases):
    result = replay(TASK, tag, cases)
    assert result.passed, result.message
    assert result.cases == 4
    assert result.worst <= 1e-7


def test_a_service_that_answers_otherwise_is_not_released(port, tag, cases):
    """One wrong number, or one picture refused, and the check is red and says which."""
    wrong = replace(cases[0], expected={label: p + 2e-5 for label, p in cases[0].expected.items()})
    other = replace(cases[1], expected={"wart": 1.0})
    broken = replace(cases[2], body=b"no picture")
    result = replayed(port, tag, [wrong, other, broken, cases[3]])
    assert not result.passed
    assert [failure.split(":")[0] for failure in result.failures] == ["image-20", "image-50", "image-80"]
    assert "400" in result.failures[2]
    assert "differ" in result.message


def test_the_ids_of_what_was_learned_from_do_not_leave_with_the_service(tag, indexed):
    """The bundle has them, the Bento does not, and serves without."""
    assert (indexed / LEARNED).is_file()
    assert list(bento_home().rglob(MODEL))
    assert not list(bento_home().rglob(LEARNED))


def test_the_labels_name_the_whole_chain(tag, bundle):
    """From a prediction's Bento back to git commit, data, run and model."""
    shown = subprocess.run(
        [sys.executable, "-m", "bentoml", "get", tag, "-o", "json"], capture_output=True, text=True, check=True
    )
    card = Bundle.open(bundle).card
    labels = json.loads(shown.stdout)["labels"]
    assert re.fullmatch("[0-9a-f]{32}", labels.pop("code"))  # the sources in it: a running service tells them apart
    assert labels == {
        "task": TASK,
        "model_version": Bundle.open(bundle).version,
        "dataset_md5": card.dataset_md5,
        "git_commit": card.git_commit,
        "mlflow_version": "7",
    }


def test_a_bento_takes_the_prevalence_of_its_policy_along(tag, indexed, cases, tmp_path):
    """Where it is deployed nobody sets a variable, and here the policy may say something else by then."""
    shares = {"melanoma": 0.02, "nevus": 0.9, "seborrheic_keratosis": 0.08}
    for package in ("derm_ml", "derm_assets", "serving"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    policy = tmp_path / "derm_ml" / "tasks" / TASK / "policy.yaml"
    before = policy.read_text()

    def build(said: object) -> subprocess.CompletedProcess[str]:
        policy.write_text(f"{before}\nprevalence: {json.dumps(said)}\n")
        order = f"from derm_assets.packaging import build_bento as b; print(b('{TASK}', P('{indexed}'), '7'))"
        run = [sys.executable, "-c", f"from pathlib import Path as P; {order}"]
        here = {**os.environ, "PYTHONPATH": str(tmp_path)}
        return subprocess.run(run, env=here, cwd=tmp_path, capture_output=True, text=True, check=False)

    refused = build(0.02)
    assert refused.returncode != 0
    assert "policy.yaml of lesion_classification: 'prevalence' must be the share of each label" in refused.stderr
    built = build(shares)
    assert built.returncode == 0, built.stderr
    own = built.stdout.strip().splitlines()[-1]
    with running(TASK, own) as port:
        answer = json.loads(_ask(port, "POST", "/predict", cases[0].body)[1])
        assert answer["at_prevalence"]["prevalence"] == pytest.approx(shares)
        assert answer["probabilities"] == pytest.approx(dict(cases[0].expected))


def test_under_the_real_server(port, encode):
    """Limits, metrics and a clean end hold under uvicorn and circus, not only in the test client."""
    body = encode("JPEG")
    for headers in ({"Content-Length": str(11 * 2**20)}, {"Transfer-Encoding": "chunked"}):
        assert _upload_too_much(port, headers) == 413
    assert _ask(port, "POST", "/predict", body)[0] == 200
    assert _ask(port, "GET", "/jane_doe.png")[0] == 404
    status, metrics = _ask(port, "GET", "/metrics")
    assert status == 200
    counted = [line for line in metrics.splitlines() if line.startswith("derm_lesion_classification_request_total")]
    for code in ("200", "404", "413"):
        assert any(f'http_response_code="{code}"' in line for line in counted)
    assert "request_duration_seconds_bucket" in metrics
    assert "jane_doe" not in metrics


def test_the_bento_brings_its_page_along_and_describes_its_paths(port, tag):
    """A page left out of the package works in every test and is missing where it is deployed."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    for path, accept in (
        ("/", "text/html"),
        ("/docs", "text/html"),
        ("/page/app.js", "*/*"),
        ("/page/style.css", "*/*"),
    ):
        connection.request("GET", path, headers={"Accept": accept})
        response = connection.getresponse()
        assert (response.status, bool(response.read())) == (200, True), path
    connection.close()
    described = bento_home() / "bentos" / tag.replace(":", "/") / "apis" / "openapi.yaml"
    assert {"/predict", "/explain", "/similar"} <= set(yaml.safe_load(described.read_text())["paths"])


def test_a_server_open_to_the_world_without_a_token_does_not_start(tag, tmp_path):
    command = serve_command(tag, "0.0.0.0", 1)
    environment = serve_environment(tmp_path / "run")
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode != 0
    assert "DERM_TOKEN" in ended.stderr + ended.stdout


def test_python_m_serving_says_what_is_missing(tag):
    ended = subprocess.run(
        [sys.executable, "-m", "serving", "retinal_findings"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode != 0
    assert "promote a model first" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_damaged_bundle_is_not_packed(tag, write_bundle, tmp_path):
    path = write_bundle(tmp_path / "bundle")
    (path / "weights.safetensors").write_bytes(b"")
    with pytest.raises(BundleError, match=r"weights\.safetensors"):
        build_bento(TASK, path)


def test_a_bundle_without_weights_serves_only_where_they_were_left_out_on_purpose(write_bundle, tmp_path):
    """The note in their place holds their sha256: weights that got lost, or a note of other weights, stay an error."""
    bundle = Bundle.open(write_bundle(tmp_path / "bundle"))
    copy_to_serve(bundle, tmp_path / "copy")
    assert Bundle.open(tmp_path / "copy").version == bundle.version
    assert not (tmp_path / "copy" / "weights.safetensors").exists()
    with pytest.raises(BundleError, match="was copied to be served"):  # it cannot be promoted or packed again
        Bundle.open_trusted(tmp_path / "copy")
    for note in (b"0" * 64, b"\xff" * 64, b"0" * 2**20):
        (tmp_path / "copy" / LEFT_OUT).write_bytes(note)
        with pytest.raises(BundleError, match=r"weights\.safetensors: missing"):
            Bundle.open(tmp_path / "copy")
    (tmp_path / "copy" / LEFT_OUT).unlink()
    with pytest.raises(BundleError, match=r"weights\.safetensors: missing"):
        Bundle.open(tmp_path / "copy")


def test_a_bento_that_is_not_there_says_so_with_the_servers_words(tag):
    with pytest.raises(PackagingError, match=f"{TASK}:nothing"):
        replay(TASK, f"{TASK}:nothing", [])


def test_a_release_names_a_pinned_bento(tag):
    """`latest` would serve whatever was built last, promoted or not."""
    path = release(TASK, tag, {})
    assert json.loads(path.read_text())["bento"] == tag
    for wrong in (f"{TASK}:latest", TASK, "other:1", f"{TASK}:../x", f"{TASK}:1; rm"):
        with pytest.raises(ValueError, match="pinned"):
            release(TASK, wrong, {})
    assert json.loads(path.read_text())["bento"] == tag


def test_a_link_in_a_bundle_is_not_packed(write_bundle, tmp_path):
    """The file it leads to would be handed on with the Bento."""
    bundle = write_bundle(tmp_path / "bundle")
    (bundle / "notes.txt").symlink_to("/etc/passwd")
    with pytest.raises(BundleError, match=r"notes\.txt: is a link"):
        build_bento(TASK, bundle)


def test_the_image_holds_everything_the_service_imports_and_no_torch(tag, encode, tmp_path):
    """Every package the served Bento imports while it answers is in its requirements: else the image fails in use."""
    picture = tmp_path / "picture.png"
    picture.write_bytes(encode())
    done = subprocess.run(
        [sys.executable, "-c", _SPY, tag, str(picture)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    imported = set(json.loads(done.stdout.splitlines()[-1]))
    assert not imported & {"torch", "torchvision", "lightning_fabric", "dagster", "mlflow", "dvc"}
    distributions = packages_distributions()
    allowed = _closure(("bentoml", *PACKAGES))
    missing = {m for m in imported if m in distributions and not allowed & _names(distributions[m])}
    # ours travel as sources; the test's client takes httpx2 and what it needs
    ours, client = {"derm_ml", "serving", "derm_assets"}, {"httpx2", "httpcore2", "truststore"}
    where_installed = {"colorama", "_distutils_hack", "pexpect", "ptyprocess"}  # the last two by pyzmq
    assert missing <= ours | client | where_installed


@pytest.mark.parametrize(("packed", "below"), [(TASK, ""), ("suite", f"/{TASK}")])
def test_the_image_serves_from_what_is_copied_into_it_and_only_with_a_token(packed, below, tag, encode, tmp_path):
    """The entrypoint runs as in the container, in an environment with nothing in it but what the Dockerfile sets."""
    release(TASK, tag, {})
    folder, token = tmp_path / "image", "t" * 32
    command = [sys.executable, "-m", "serving.image", packed, str(folder)]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert f"{folder} holds {tag};" in made.stdout
    assert not list(folder.rglob("*.safetensors"))  # nobody reads weights there, the graph holds them
    assert (folder / "requirements.txt").read_text().count("==") == len(PACKAGES) + 1  # and BentoML
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # copied by root, read by another user
    assert all(path.stat().st_mode & 0o044 == 0o044 for path in folder.rglob("*"))
    python = Path(sys.executable).parent
    said = (folder / "Dockerfile").read_text().replace("\\\n", " ")
    [settings] = re.findall(r"^ENV (.*)$", said, re.M)
    environment = dict(setting.split("=", 1) for setting in settings.split())
    environment = {k: v.replace("/app", str(folder)).replace("/venv/bin", str(python)) for k, v in environment.items()}
    environment |= {"DERM_PORT": str(port), "DERM_RUN": str(tmp_path / "run"), "PATH": f"{python}:/usr/bin:/bin"}
    # where everybody may write, and where the service is started, lies a module of a name that BentoML imports
    environment["TMPDIR"] = str(tmp_path / "written by all")
    planted = tmp_path / "written by all" / "h2.py"
    planted.parent.mkdir()
    planted.write_text(f"open({str(tmp_path / 'imported')!r}, 'x')")
    command = ["/bin/sh", str(folder / "entrypoint.sh")]
    copied = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    refused = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "without a token" in refused.stderr
    health = [str(python / "python"), "-m", "serving.health"]
    assert subprocess.run(health, env=environment, check=False).returncode == 1
    server = subprocess.Popen(command, env={**environment, "DERM_TOKEN": token}, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while subprocess.run(health, env=environment, check=False).returncode:
            assert server.poll() is None
            assert time.monotonic() < deadline
        for secret, status in (("x" * 32, 401), (token, 200)):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            connection.request("POST", f"{below}/predict", encode(), {**RAW, "Authorization": f"Bearer {secret}"})
            assert connection.getresponse().status == status
            connection.close()
    finally:
        server.terminate()
        server.wait(30)
    assert not (tmp_path / "imported").exists()
    # the file system of the container may be read-only
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == copied


@pytest.mark.parametrize(
    ("codes", "packages", "said"),
    [
        ({"a:1": "x", "b:1": "y"}, {}, "a:1, b:1"),
        ({"a:1": "x", "b:1": "x"}, {"a:1": "numpy==2\npillow==1", "b:1": "numpy==1\n"}, "numpy==1, numpy==2"),
    ],
)
def test_bentos_that_one_process_cannot_run_are_not_packed_into_one_image(codes, packages, said):
    """A suite would refuse them when it is asked, in a clinic, far from who built it."""
    with pytest.raises(CannotPack, match=said):
        refuse_different(codes, packages)


def test_a_request_under_way_is_answered_when_the_server_is_told_to_end(port, tag, encode):
    """A champion is swapped by starting the new service and ending the old one: nobody's upload may be lost.

    The last test in this file, as it ends the server of the others.
    """
    body = encode("JPEG")
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.putrequest("POST", "/predict")
    connection.putheader("Content-Type", "image/jpeg")
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body[:100])
    while not re.search(r'in_progress\{endpoint="/predict".* 1\.0', _ask(port, "GET", "/metrics")[1]):
        time.sleep(0.05)  # until the worker has begun to read it
    [server] = [child for child in psutil.Process().children() if str(port) in child.cmdline()]
    server.terminate()
    time.sleep(0.5)  # time to end rudely in, were it so
    connection.send(body[100:])
    response = connection.getresponse()
    assert response.status == 200
    assert json.loads(response.read())["bento"] == tag


_SPY = """
import json, sys
import bentoml
from starlette.testclient import TestClient
with TestClient(bentoml.load(sys.argv[1]).to_asgi(), base_url="http://127.0.0.1:3000") as client:
    body = open(sys.argv[2], "rb").read()
    for path in ("/predict", "/explain", "/similar"):
        answer = client.post(path, content=body, headers={"Content-Type": "image/png"})
        assert answer.status_code == 200, answer.text
import serving
assert "/bentos/" in serving.__file__, serving.__file__
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def _closure(names: tuple[str, ...]) -> set[str]:
    """The distributions that installing `names` installs."""
    found: set[str] = set()
    todo = [Requirement(name) for name in names]
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        if name in found:
            continue
        try:
            needs = [Requirement(text) for text in requires(name) or []]
        except PackageNotFoundError:
            continue
        found.add(name)
        extras = requirement.extras or {""}
        todo += [n for n in needs if n.marker is None or any(n.marker.evaluate({"extra": e}) for e in extras)]
    return found


def _names(distributions: list[str]) -> set[str]:
    return {canonicalize_name(name) for name in distributions}


def _ask(port: int, method: str, path: str, body: bytes | None = None) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path, body=body, headers=RAW if body else {})
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    return response.status, text


def _upload_too_much(port: int, headers: dict[str, str]) -> int:
    """Send 11 MiB in parts, as long as the server lets us; the status it answered."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    parts = (bytes(2**16) for _ in range(11 * 16))
    try:
        chunked = "Transfer-Encoding" in headers
        connection.request("POST", "/predict", body=parts, headers={**RAW, **headers}, encode_chunked=chunked)
    except (BrokenPipeError, ConnectionResetError):
        pass  # it has answered and hung up, as it should
    status = connection.getresponse().status
    connection.close()
    return status
