"""What is handed on with a service: no licence that would reach whoever gets the image, and none that nobody knows."""

from __future__ import annotations

from importlib.metadata import distribution

import pytest
from packaging.utils import canonicalize_name

from serving.licences import FORBIDDEN, image_packages, licence_of


def test_every_licence_of_the_serving_image_is_known_and_allowed():
    licences = {canonicalize_name(p.metadata["Name"]): licence_of(p) for p in image_packages()}
    assert {"bentoml", "onnxruntime", "starlette", "dlib-bin"} <= licences.keys()
    assert not licences.keys() & {"torch", "dagster", "mlflow", "dvc", "grandalf", "pygit2"}
    assert not [name for name, licence in licences.items() if not licence or FORBIDDEN.search(licence)]


@pytest.mark.parametrize("name", ["grandalf", "pygit2"])  # they come with DVC
def test_the_check_sees_the_gpl(name):
    assert FORBIDDEN.search(licence_of(distribution(name)))


@pytest.mark.parametrize(
    ("licence", "forbidden"),
    [
        ("GNU General Public License v2 (GPLv2)", True),
        ("GNU Affero General Public License v3", True),
        ("MIT OR AGPL-3.0-only", True),
        ("GNU Lesser General Public License v3 (LGPLv3)", False),
        ("Mozilla Public License 2.0 (MPL 2.0)", False),
        ("BSD-3-Clause", False),
    ],
)
def test_which_licences_are_forbidden(licence, forbidden):
    assert bool(FORBIDDEN.search(licence)) == forbidden
