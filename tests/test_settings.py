"""The user's settings, and the precedence of their sources."""

from dataclasses import FrozenInstanceError, asdict

import pytest

from keepfit.callbacks.errors import ConfigurationError
from keepfit.callbacks.launch import process
from keepfit.callbacks.launch.process import Launch
from keepfit.callbacks.settings import Settings, StoreSettings

VARIABLES = ["STORE", "RUN", "SAVE_EVERY", "KEEP", "FRESH", "RESUME", "EXACT", "ONLY_EXPLICIT"]
DEFAULTS = {
    "store": "file://./runs",
    "run": "train",
    "save_every": "auto",
    "keep": 3,
    "keep_fits": 0,
    "fresh": False,
    "resume": False,
    "exact": False,
    "only_explicit": False,
}
FROM_VARIABLES = {
    "store": "file:///from/variable",
    "run": "variable",
    "save_every": "7s",
    "keep": 7,
    "keep_fits": 2,
    "fresh": True,
    "resume": True,
    "exact": True,
    "only_explicit": True,
}
FROM_ARGUMENTS = {
    "store": "file:///from/argument",
    "run": "argument",
    "save_every": "8 batches",
    "keep": 8,
    "keep_fits": 3,
    "fresh": False,
    "resume": False,
    "exact": False,
    "only_explicit": False,
}


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    """A script called train.py, and no variable set."""
    monkeypatch.setattr(process, "_current", Launch("train"))
    for name in VARIABLES:
        monkeypatch.delenv(f"KEEPFIT_{name}", raising=False)


def resolved(**given):
    """Return the settings in effect, without the number of the job's attempt."""
    values = asdict(Settings.resolve(**given))
    assert values.pop("job_attempt") == 1
    return values


def set_variables(monkeypatch, values):
    for name, value in values.items():
        monkeypatch.setenv(f"KEEPFIT_{name.upper()}", str(value))


def test_defaults():
    """Without arguments and variables, defaults apply; the run is named after the script."""
    assert resolved() == DEFAULTS


def test_variables_before_defaults(monkeypatch):
    """Environment variables take precedence over defaults."""
    set_variables(monkeypatch, FROM_VARIABLES)
    assert resolved() == FROM_VARIABLES


def test_arguments_before_variables(monkeypatch):
    """Arguments take precedence over variables, even if they equal the default."""
    set_variables(monkeypatch, FROM_VARIABLES)
    assert resolved(**FROM_ARGUMENTS) == FROM_ARGUMENTS
    assert resolved(**DEFAULTS) == DEFAULTS


@pytest.mark.parametrize("name", DEFAULTS)
def test_none_means_not_given(monkeypatch, name):
    """For an argument that is None, the variable applies, and then the default."""
    assert resolved(**{name: None}) == DEFAULTS
    set_variables(monkeypatch, {name: FROM_VARIABLES[name]})
    found = resolved(**{name: None})
    assert found == {**DEFAULTS, name: FROM_VARIABLES[name]}


@pytest.mark.parametrize("name", DEFAULTS)
def test_each_setting_is_independent(monkeypatch, name):
    """An argument overrides its own variable only."""
    set_variables(monkeypatch, FROM_VARIABLES)
    found = resolved(**{name: FROM_ARGUMENTS[name]})
    assert found == {**FROM_VARIABLES, name: FROM_ARGUMENTS[name]}


def test_other_variables_are_ignored(monkeypatch):
    """Variables of newer or older versions are no error."""
    monkeypatch.setenv("KEEPFIT_UNKNOWN", "x")
    assert resolved() == DEFAULTS


@pytest.mark.parametrize("value", ["1", "true", "yes", "on", "True"])
def test_fresh_takes_the_usual_words(monkeypatch, value):
    """A flag in the environment accepts the usual words for true."""
    monkeypatch.setenv("KEEPFIT_FRESH", value)
    assert Settings.resolve().fresh is True


BAD = [
    ("store", "runs"),
    ("store", ""),
    ("store", "file://"),
    ("store", "gs://bucket/runs"),
    ("save_every", ""),
    ("save_every", "often"),
    ("save_every", "0s"),
    ("keep", "0"),
    ("keep", "-1"),
    ("keep", "many"),
    ("keep", "1.5"),
    ("keep", ""),
    ("fresh", "perhaps"),
    ("fresh", "2"),
    ("resume", "maybe"),
    ("run", ""),
    ("run", "a/b"),
    ("run", "a b"),
    ("run", ".hidden"),
    ("run", ".."),
    ("run", "-x"),
    ("run", "ä"),
    ("run", "line\nbreak"),
    ("run", "run\n"),
    ("run", "x" * 129),
]


@pytest.mark.parametrize(("name", "value"), BAD, ids=lambda x: repr(x)[:20])
@pytest.mark.parametrize("source", ["argument", "variable"])
def test_bad_value_gives_one_clear_line(monkeypatch, source, name, value):
    """The line names the setting and shows the value, wherever it came from."""
    arguments = {}
    if source == "argument":
        arguments = {name: value}
    else:
        set_variables(monkeypatch, {name: value})
    with pytest.raises(ConfigurationError) as caught:
        Settings.resolve(**arguments)
    message = str(caught.value)
    assert message.endswith(f"Received: {name}={value!r}")
    assert "\n" not in message
    assert "pydantic" not in message


@pytest.mark.parametrize(("name", "value"), [("keep", 0), ("store", 5), ("run", 5), ("fresh", "x")])
def test_bad_type_gives_one_clear_line(name, value):
    """A value of another type is shown unchanged."""
    with pytest.raises(ConfigurationError, match=f"Received: {name}={value!r}$"):
        Settings.resolve(**{name: value})


@pytest.mark.parametrize(
    "name", ["a", "A", "0", "mnist", "a.b", "a_b", "lr=1e-3", "a+b", "a-b", "x" * 128, "1.2.3"]
)
def test_names_of_runs(name):
    """Letters, digits and a few characters that are safe in paths, keys and shells are valid."""
    assert Settings.resolve(run=name).run == name


def test_no_name(monkeypatch):
    """Where the process has no name, a name is asked for; one that is given is used."""
    monkeypatch.setattr(process, "_current", Launch(None, "pytest has started it"))
    with pytest.raises(ConfigurationError, match=r"run='NAME'.*KEEPFIT_RUN=NAME") as caught:
        Settings.resolve()
    assert "pytest has started it" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert Settings.resolve(run="given").run == "given"
    monkeypatch.setenv("KEEPFIT_RUN", "set")
    assert Settings.resolve().run == "set"


def test_store_needs_no_name(monkeypatch):
    """Commands that only read a store work where the process has no name."""
    monkeypatch.setattr(process, "_current", Launch(None, "it is a command"))
    assert StoreSettings.resolve().store == DEFAULTS["store"]


def test_settings_are_frozen():
    """Resolved settings can't be changed."""
    with pytest.raises(FrozenInstanceError):
        Settings.resolve().keep = 5
