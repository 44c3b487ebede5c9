"""Keras' own tests of its callbacks, run with our classes of the same names.

The packages of Keras 3.11 and older do not contain these tests, so nothing runs with them.
"""

from __future__ import annotations

import importlib
import sys
import types
import unittest

import keras
import keras.src.callbacks
import pytest

import keepfit

OURS = {
    "csv_logger_test": "CSVLogger",
    "model_checkpoint_test": "ModelCheckpoint",
    "remote_monitor_test": "RemoteMonitor",
    "tensorboard_test": "TensorBoard",
}

SHIPPED = tuple(map(int, keras.__version__.split(".")[:2])) >= (3, 12)


def cases():
    """Yield each of Keras' tests, from the installed package."""
    # Keras' conftest is not in the package; these tests need one decorator of it.
    helper = types.ModuleType("conftest")
    helper.skip_if_backend = lambda *_: lambda test: test
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "conftest", helper)
        for name, ours in OURS.items():
            module = importlib.import_module(f"keras.src.callbacks.{name}")
            for suite in unittest.defaultTestLoader.loadTestsFromModule(module):
                for test in suite:
                    yield pytest.param(module, ours, test, id=test.id().rpartition(".")[2])


if SHIPPED:

    @pytest.mark.parametrize(("module", "name", "test"), list(cases()))
    def test_passes_with_our_class(module, name, test, monkeypatch):
        """Our class behaves as Keras' tests expect of the class that it replaces."""
        replaced = {**vars(keras.src.callbacks), name: getattr(keepfit, name)}
        monkeypatch.setattr(module, "callbacks", types.SimpleNamespace(**replaced))
        result = unittest.TestResult()
        test.run(result)
        assert result.testsRun == 1
        problems = [trace for _, trace in (*result.failures, *result.errors)]
        assert not problems, problems[0]
