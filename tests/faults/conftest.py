"""The tiny bundle of the serving tests."""

from tests.serving.conftest import bundle, encode, picture, write_bundle

__all__ = ["bundle", "encode", "picture", "write_bundle"]
