"""The stores and folders of the tests of checkpoints."""

from tests.checkpoint.conftest import module_folder, store, tmp_path

__all__ = ["module_folder", "store", "tmp_path"]
