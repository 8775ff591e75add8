"""Traces leave the machine: they must hold nothing about a person, and the file that switches them on must work."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from bentoml._internal.configuration.containers import BentoMLContainer
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

ROOT = Path(__file__).parents[2]
HEADERS = {"Content-Type": "image/png"}
READ = """
import bentoml
from bentoml._internal.configuration.containers import BentoMLContainer as found
bentoml.service(name="any")(type("Any", (), {})).inject_config()  # as every service does when it is served
print(found.tracing.exporter_type.get(), found.tracing.sample_rate.get(), found.tracing.otlp.get()["endpoint"])
"""


@pytest.fixture
def traced() -> Iterator[InMemorySpanExporter]:
    """What a collector would get of every service that is made meanwhile."""
    kept, provider, before = InMemorySpanExporter(), TracerProvider(), BentoMLContainer.tracer_provider
    provider.add_span_processor(SimpleSpanProcessor(kept))
    before.set(provider)
    yield kept
    before.reset()


def test_a_trace_holds_no_age_no_sex_and_no_path_a_client_made_up(traced, make_client, encode):
    client = make_client()
    caller = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    answer = client.post("/predict?age=63&sex=female", content=encode(), headers=HEADERS | caller)
    assert answer.json()["options_ignored"] == ["age", "sex"], "the question itself has its parameters"
    assert client.get("/jane_doe.png?age=63").status_code == 404
    spans = traced.get_finished_spans()
    said = " ".join(f"{span.name} {dict(span.attributes)}" for span in spans)
    assert "/predict" in said
    assert not [word for word in ("63", "female", "jane_doe") if word in said]
    assert any(f"{span.context.trace_id:032x}" == "0af7651916cd43dd8448eb211c80319c" for span in spans)


@pytest.mark.slow
def test_the_file_of_the_documentation_switches_it_on_and_without_it_is_off(tmp_path):
    """BentoML ignores settings that stand elsewhere in the file, without a word."""
    text = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```yaml\n(# tracing.yaml.*?)```", text, re.DOTALL)
    (tmp_path / "tracing.yaml").write_text(block)

    def read(**variables: str) -> str:
        here = {name: value for name, value in os.environ.items() if name != "BENTOML_CONFIG"}
        done = subprocess.run(
            [sys.executable, "-c", READ], env=here | variables, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    assert read(BENTOML_CONFIG=str(tmp_path / "tracing.yaml")) == "otlp 1.0 http://127.0.0.1:4318/v1/traces"
    assert read() == "None None None"
