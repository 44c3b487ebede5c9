"""The garbage collector while a script imports TensorFlow and Keras."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

PACKAGES = {
    "tensorflow": "import gc\nENABLED = gc.isenabled()\nimport keras\nAFTER = gc.isenabled()\n",
    "keras": "import gc\nENABLED = gc.isenabled()\n",
    "other": "import gc\nENABLED = gc.isenabled()\n",
}


@pytest.fixture
def packages(tmp_path):
    """A folder with small packages of these names."""
    for name, source in PACKAGES.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(source)
    return tmp_path


def run(packages, program: str) -> None:
    """Run a program in a new process, which can import the packages."""
    lines = [
        "import gc, importlib, sys, threading",
        "from keepfit.job.process.import_pause import collection_paused_in_imports",
        textwrap.dedent(program),
    ]
    command = [sys.executable, "-c", "\n".join(lines)]
    ended = subprocess.run(command, cwd=packages, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_paused_and_frozen(packages):
    """The collector is off in both packages, on afterwards, and what exists by then is frozen."""
    run(
        packages,
        """
        with collection_paused_in_imports():
            import tensorflow
            assert not tensorflow.ENABLED
            assert not tensorflow.keras.ENABLED
            assert not tensorflow.AFTER, "the inner import does not end the pause"
            assert gc.isenabled()
            assert gc.get_freeze_count() > 0
            assert importlib.import_module("other").ENABLED
        assert tensorflow.__loader__.get_filename() == tensorflow.__file__
        """,
    )


def test_the_settings_of_the_script_win(packages):
    """A script that has disabled the collector finds it as it has left it, and nothing frozen."""
    run(
        packages,
        """
        gc.disable()
        with collection_paused_in_imports():
            import tensorflow
            assert not gc.isenabled()
            assert gc.get_freeze_count() == 0
        """,
    )


@pytest.mark.parametrize("error", ["ImportError", "KeyboardInterrupt"])
def test_an_import_that_fails(packages, error):
    """The collector is on again."""
    (packages / "keras/__init__.py").write_text(f"raise {error}")
    run(
        packages,
        f"""
        with collection_paused_in_imports():
            try:
                import keras
            except {error}:
                assert gc.isenabled()
            else:
                sys.exit(1)
        """,
    )


def test_imports_in_two_threads(packages):
    """The collector is on again when both have ended, in whichever order."""
    (packages / "tensorflow/__init__.py").write_text(
        "import other, gc\nother.inside.set()\nother.go.wait(10)\nENABLED = gc.isenabled()\n"
    )
    run(
        packages,
        """
        with collection_paused_in_imports():
            import other
            other.inside, other.go = threading.Event(), threading.Event()
            thread = threading.Thread(target=importlib.import_module, args=("tensorflow",))
            thread.start()
            assert other.inside.wait(10)
            import keras
            assert not gc.isenabled(), "an import is still under way"
            other.go.set()
            thread.join()
            assert gc.isenabled()
            assert not sys.modules["tensorflow"].ENABLED
        """,
    )


def test_after_the_block(packages):
    """Without a runner, imports are as Python makes them."""
    run(
        packages,
        """
        before = list(sys.meta_path)
        with collection_paused_in_imports():
            pass
        assert sys.meta_path == before
        import keras
        assert keras.ENABLED
        """,
    )
