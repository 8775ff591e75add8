"""The tiny bundle of the serving tests."""

from tests.serving.conftest import bundle, encode, indexed, picture, write_bundle

__all__ = ["bundle", "encode", "indexed", "picture", "write_bundle"]
