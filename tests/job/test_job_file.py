"""`keepfit submit` with a job file: its keys, the command line over it, and refusals."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from keepfit.callbacks.storage import open_store
from keepfit.job.code_archive import download_archive
from keepfit.job.commands.batch.submission.job_file import JobFile, read_job_file
from keepfit.job.commands.batch.submission.merge import merge
from tests.e2e.process import ROOT
from tests.job.conftest import keepfit, refused
from tests.job.test_submission import assert_nothing_was_created, code_of, submitted, variables

SECRET = "arn:aws:ssm:us-east-1:123456789012:parameter/team/token"

JOB = """
script = "train.py"
args = ["--epochs", 20, "--rate", 0.5]
run = "cats"
save-every = "5min"
deterministic = true
exact = true
hourly-price = 0.07
notify = ["https://hooks.example.com/keepfit"]
max-size = 50

[resources]
vcpus = 4
memory = "8GiB"

[env]
RATE = 0.1
DATA = "mnist"

[notices]
on-notice = "leave"
grace = "60s"
"""


@pytest.fixture
def project(script, monkeypatch):
    """The script's folder, as the current one."""
    monkeypatch.chdir(script.parent)
    return script.parent


def only_job(aws, deployed):
    (job,) = submitted(aws, deployed.queue)
    return job


def test_without_arguments(deployed, aws, project):
    """A folder with keepfit.toml is submitted by `keepfit submit` alone."""
    (project / "keepfit.toml").write_text(JOB)
    ended = keepfit("submit")
    assert "keepfit status cats" in ended.stdout
    assert "job file used: file keepfit.toml" in ended.stderr
    job = only_job(aws, deployed)
    command = job["container"]["command"]
    assert command[:3] == ["run", "--deterministic", "--code"]
    assert command[4:] == ["train.py", "--epochs", "20", "--rate", "0.5"]
    expected = {
        "KEEPFIT_RUN": "cats",
        "KEEPFIT_SAVE_EVERY": "5min",
        "KEEPFIT_EXACT": "1",
        "KEEPFIT_HOURLY_PRICE": "0.07",
        "KEEPFIT_NOTIFY": "https://hooks.example.com/keepfit",
        "KEEPFIT_ON_NOTICE": "leave",
        "KEEPFIT_GRACE": "60s",
        "RATE": "0.1",
        "DATA": "mnist",
    }
    assert variables(job).items() >= expected.items()


def test_the_command_line_wins(deployed, aws, project):
    """A flag replaces a value, --env and --secret one variable; SCRIPT has its own ARGS."""
    (project / "keepfit.toml").write_text(JOB)
    keepfit("submit", "--run", "dogs", "--env", "RATE=7", "--save-every", "1 epoch", "train.py")
    job = only_job(aws, deployed)
    assert job["container"]["command"][-1] == "train.py"
    expected = {
        "KEEPFIT_RUN": "dogs",
        "KEEPFIT_SAVE_EVERY": "1 epoch",
        "RATE": "7",
        "DATA": "mnist",
    }
    assert variables(job).items() >= expected.items()


def test_a_module_in_pyproject(deployed, aws, project, tmp_path, monkeypatch):
    """[tool.keepfit] names a module of the file's folder, also from elsewhere with --job."""
    (project / "package").mkdir()
    (project / "package/__init__.py").write_text("")
    (project / "package/train.py").write_text("print(1)")
    file = project / "pyproject.toml"
    file.write_text('[project]\nname = "x"\n[tool.keepfit]\nmodule = "package.train"\n')
    monkeypatch.chdir(tmp_path)
    keepfit("submit", "--job", file)
    job = only_job(aws, deployed)
    assert job["container"]["command"][-2:] == ["-m", "package.train"]
    folder = download_archive(open_store(deployed.store), code_of(job), "package.train")
    assert (folder / "package/train.py").is_file()


@pytest.mark.parametrize(
    ("text", "given", "expected"),
    [
        ("", {}, (None, False)),
        ('requirements = "needs.txt"', {}, ("folder/needs.txt", False)),
        ("requirements = false", {}, (None, True)),
        ("requirements = false", {"requirements": "own.txt"}, ("own.txt", False)),
        ('requirements = "needs.txt"', {"no_requirements": True}, (None, True)),
    ],
)
def test_requirements_of_the_file(tmp_path, text, given, expected):
    """They are relative to the file; `false` turns them off; the command line wins over both."""
    file = tmp_path / "keepfit.toml"
    file.write_text(f'script = "train.py"\n{text}\n')
    options = merge(given, read_job_file(file), Path("folder"))
    assert (options.requirements, options.no_requirements) == expected


def test_a_file_that_describes_another_script(deployed, aws, project):
    """Its run's name and variables are not used for a script that it does not describe."""
    (project / "keepfit.toml").write_text(JOB)
    (project / "other.py").write_text("print(1)")
    ended = keepfit("submit", "other.py")
    assert "job file unused: file keepfit.toml" in ended.stderr
    job = only_job(aws, deployed)
    assert variables(job)["KEEPFIT_RUN"] == "other"
    assert "RATE" not in variables(job)


def test_a_file_without_a_script(deployed, aws, project):
    """Its options are those of each script that is submitted from the folder."""
    (project / "keepfit.toml").write_text('save-every = "7s"')
    keepfit("submit", "train.py")
    assert variables(only_job(aws, deployed))["KEEPFIT_SAVE_EVERY"] == "7s"


MISTAKES = [
    ("save_every = '5min'", ["the key save_every is unknown", "did you mean save-every?"]),
    ("qqq = 1", ["the key qqq is unknown", "the keys are script, module, args"]),
    ("[resources]\nvcpu = 1", ["the key resources.vcpu is unknown", "did you mean vcpus?"]),
    ("fresh = true", ["fresh can only be given on the command line, as --fresh"]),
    ("[resources]\nvcpus = 'four'", ["resources.vcpus: Input should be a valid integer"]),
    ("[env]\nDEBUG = true", ["env.DEBUG: Input should be a valid string"]),
    ("[env]\n'A B' = 'xyzzy'", ["'A B' is not the name of a variable"]),
    ("[secrets]\nTOKEN = 'xyzzy'", ["--secret TOKEN=… is not the ARN of a secret"]),
    (f"[env]\nTOKEN = 'xyzzy'\n[secrets]\nTOKEN = '{SECRET}'", ["TOKEN is given more than once"]),
    ("[notices]\non-notice = 'stay'", ["notices.on-notice: Input should be 'train-on' or 'leave'"]),
    ("[notices]\ngrace = 'soon'", ["grace", "soon"]),
    ("script = 'train.py'\nmodule = 'train'", ["script and module are both given"]),
    ("script = ", ["keepfit.toml is not valid TOML", "end of document"]),
    ("script = 'none.py'", ["there is no script", "none.py"]),
]


@pytest.mark.parametrize(("text", "words"), MISTAKES)
def test_a_mistake_in_the_file(project, text, words):
    """One line names the key and the fix, before AWS is asked; values may be secret."""
    (project / "keepfit.toml").write_text(text)
    script = [] if "script" in text else ["train.py"]
    *_, line = keepfit("submit", *script, code=2).stderr.splitlines()
    assert all(word in line for word in words), line
    assert "xyzzy" not in line


def test_no_script_at_all(deployed, aws, project):
    """The line says both ways to name one."""
    line = refused("submit", code=2)
    assert "give SCRIPT, or name it in a job file" in line
    assert_nothing_was_created(aws, deployed)


def test_two_job_files(project):
    """Which one is meant can't be known."""
    (project / "keepfit.toml").write_text("script = 'train.py'")
    (project / "pyproject.toml").write_text("[tool.keepfit]\nscript = 'train.py'")
    assert "two job files" in refused("submit", code=2)


def test_the_documented_keys():
    """docs/aws.md has a table of all keys."""
    text = (ROOT / "docs/aws.md").read_text()
    section = text[text.index("## A job as a file") :].split("\n## ", 1)[0]
    documented = set(re.findall(r"^\| `([a-z-]+)`", section, re.MULTILINE))
    assert documented == {field.alias for field in JobFile.model_fields.values()}
