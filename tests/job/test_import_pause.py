"""The garbage collector while a script imports TensorFlow and Keras."""

from __future__ import annotations

import gc
import importlib
import sys
import threading

import pytest

from keepfit.job.process.import_pause import collection_paused_in_imports

PACKAGES = {
    "tensorflow": "import gc\nENABLED = gc.isenabled()\nimport keras\nAFTER = gc.isenabled()\n",
    "keras": "import gc\nENABLED = gc.isenabled()\n",
    "other": "import gc\nENABLED = gc.isenabled()\n",
}


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """Small packages of these names, not yet imported; gc is as before after the test."""
    for name, source in PACKAGES.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    for module in [m for m in sys.modules if m.partition(".")[0] in PACKAGES]:
        del sys.modules[module]
    yield tmp_path
    gc.enable()
    gc.unfreeze()


def test_paused_and_frozen(packages):
    """The collector is off in both packages, on afterwards, and what exists by then is frozen."""
    gc.unfreeze()
    with collection_paused_in_imports():
        tensorflow = importlib.import_module("tensorflow")
        assert not tensorflow.ENABLED
        assert not tensorflow.keras.ENABLED
        assert not tensorflow.AFTER, "the inner import does not end the pause"
        assert gc.isenabled()
        assert gc.get_freeze_count() > 0
        assert importlib.import_module("other").ENABLED
    assert tensorflow.__loader__.get_filename() == tensorflow.__file__


def test_the_settings_of_the_script_win(packages):
    """A script that has disabled the collector finds it as it has left it, and nothing frozen."""
    gc.unfreeze()
    gc.disable()
    with collection_paused_in_imports():
        importlib.import_module("tensorflow")
        assert not gc.isenabled()
        assert gc.get_freeze_count() == 0


@pytest.mark.parametrize("error", ["ImportError", "KeyboardInterrupt"])
def test_an_import_that_fails(packages, error):
    """The collector is on again."""
    (packages / "keras/__init__.py").write_text(f"raise {error}")
    with collection_paused_in_imports():
        with pytest.raises((ImportError, KeyboardInterrupt)):
            importlib.import_module("keras")
        assert gc.isenabled()


def test_imports_in_two_threads(packages):
    """The collector is on again when both have ended, in whichever order."""
    (packages / "tensorflow/__init__.py").write_text(
        "import other, gc\nother.inside.set()\nother.go.wait(10)\nENABLED = gc.isenabled()\n"
    )
    with collection_paused_in_imports():
        other = importlib.import_module("other")
        other.inside, other.go = threading.Event(), threading.Event()
        thread = threading.Thread(target=importlib.import_module, args=("tensorflow",))
        thread.start()
        assert other.inside.wait(10)
        importlib.import_module("keras")
        assert not gc.isenabled(), "an import is still under way"
        other.go.set()
        thread.join()
        assert gc.isenabled()
        assert not sys.modules["tensorflow"].ENABLED


def test_after_the_block(packages):
    """Without a runner, imports are as Python makes them."""
    before = list(sys.meta_path)
    with collection_paused_in_imports():
        pass
    assert sys.meta_path == before
    assert importlib.import_module("keras").ENABLED
