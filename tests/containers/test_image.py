"""The content of the image, and the ways to run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from urllib.parse import urlsplit

import pytest
from cfnlint.decode.cfn_yaml import load
from pip._internal.models.index import PyPI

from tests.containers.batch import container_options
from tests.containers.engine import HARDENED, container, engine, image, store_environment
from tests.e2e.process import ROOT, SMALL

pytestmark = pytest.mark.container

GIB = 1024**3
ENDLESS = ("--epochs", "1000000", "--patience", "1000000")
AS_ROOT = ("run", "--rm", "--user=0", "--entrypoint=sh")


@pytest.fixture(scope="module")
def config():
    (inspected,) = json.loads(engine("image", "inspect", image()))
    return inspected


def sh(script):
    """Run a script in the image as root, who can read everything. Return its output."""
    return engine(*AS_ROOT, image(), "-c", script)


@pytest.fixture
def folder(tmp_path):
    """A user's folder, which the user of the image may write to."""
    tmp_path.chmod(0o777)
    return tmp_path


def test_it_starts_as_a_plain_user_without_a_shell(config):
    """Without a shell, signals reach keepfit; the user is not root; labels describe the image."""
    assert config["Config"]["Entrypoint"] == ["keepfit"]
    assert config["Config"]["User"] == "1000:1000"
    assert config["Config"]["Labels"]["org.opencontainers.image.version"].endswith("-cpu")
    assert config["Config"]["Labels"]["org.opencontainers.image.title"] == "keepfit"


def test_it_is_small_enough(config):
    """The size is limited, as every new machine pulls the image first; it was 1.55 GB."""
    assert config["Size"] < 1.6e9


def test_no_tools_for_builds_or_tests():
    """The image has no compiler, linter, test or cache."""
    tools = "gcc cc g++ c++ clang make git pytest ruff mypy moto_server cfn-lint"
    assert sh(f"for t in {tools}; do command -v $t; done; true") == ""
    folders = "/opt /job /home /root /tmp /var/cache"
    assert sh(f"find {folders} -name '*.whl' -o -path '*/pip/http*' -o -path '*/tests/e2e/*'") == ""


def test_no_secret_and_no_index_url(config):
    """There is none in the history of its layers, its variables or its files."""
    metadata = json.dumps(config["Config"].get("Env")) + json.dumps(config.get("History"))
    for word in ("index-url", "PIP_", "://", "TOKEN", "SECRET", "PASSWORD"):
        assert word not in metadata, metadata
    assert sh("cat /etc/pip.conf /root/.config/pip/* /root/.netrc /root/.aws/* 2>&- || true") == ""
    search = "find /opt/venv -name direct_url.json -exec grep -l http {} +"
    assert sh(f"{search}; true") == ""
    configured = subprocess.run(
        [sys.executable, "-m", "pip", "config", "get", "global.index-url"],
        capture_output=True,
        text=True,
        check=False,
    )
    address = os.environ.get("PIP_INDEX_URL", configured.stdout.strip())
    host = urlsplit(address).hostname
    if host and host != PyPI.netloc:  # which is in pip itself
        places = "/etc /opt /usr /home /root /job /var /tmp"
        assert sh(f"grep -rlF {host} {places} 2>&- | head -3") == ""


def test_a_script_of_the_user(folder):
    """With the user's folder at /job (docs/containers.md); the script's files are written to it."""
    (folder / "train.py").write_bytes(SMALL.read_bytes())
    with container(
        "run",
        "--save-every",
        "3 batches",
        "train.py",
        "tfdata",
        options=[f"--volume={folder}:/job", *HARDENED],
    ) as running:
        ended = running.wait()
    assert ended.code == 0, ended.err
    assert (folder / "result.json").exists()
    assert (folder / "runs/train/HEAD.json").exists()


def test_stopped_and_started_again(folder, bucket):
    """`stop` is a notice: the checkpoint is in the store before the container ends."""
    (folder / "train.py").write_bytes(SMALL.read_bytes())
    options = [f"--volume={folder}:/job:ro", "--workdir=/tmp", *HARDENED]
    env = store_environment() | {"KEEPFIT_STORE": f"{bucket}/stopped"}
    command = ("run", "--save-every", "50 batches", "/job/train.py", "infinite", *ENDLESS)
    with container(*command, options=options, **env) as running:
        running.until_event("checkpoint_saved")
        running.stop()
        ended = running.wait()
    assert ended.code == 75, ended.err
    saved = ended.named("checkpoint_saved")[-1]["step"]
    assert ended.one("preempted")["step"] == saved
    with container(*command, options=options, **env) as running:
        assert running.until_event("resumed")["step"] == saved
        running.kill()
        assert running.wait().code == 137


ROOM = """
import ctypes, os, shutil, tempfile, _ctypes
from pathlib import Path
from keepfit.job.machine.working_space import find_working_space

try:
    Path("/home/keepfit/file").touch()
except OSError as error:
    print(error.strerror)
(mount,) = [line.split() for line in open("/proc/mounts") if line.split()[1] == "/tmp"]
assert mount[2] != "tmpfs", mount
large = Path(os.environ["LARGE"])
with large.open("wb") as file:
    for _ in range(500):
        file.write(os.urandom(1 << 20))
    os.fsync(file.fileno())
print(large.stat().st_size >> 20)
ctypes.CDLL(shutil.copy(_ctypes.__file__, tempfile.mkdtemp()))
print(find_working_space(os.environ))
"""


def job_options():
    """Return the engine's options and the variables of the job definition in the template."""
    template = load(str(ROOT / "infra/templates/compute.yaml"))
    job = template["Resources"]["Job"]["Properties"]["ContainerProperties"]
    named = [entry for entry in job["Environment"] if isinstance(entry.get("Value"), str)]
    return container_options(as_described(job)), {e["Name"]: e["Value"] for e in named}


def as_described(value):
    """Return properties of CloudFormation with the names of AWS Batch: they begin in lower case."""
    if isinstance(value, dict):
        return {key[0].lower() + key[1:]: as_described(item) for key, item in value.items()}
    if isinstance(value, list):
        return [as_described(item) for item in value]
    return str(value) == "true" if str(value) in ("true", "false") else value


def in_a_job(name, large):
    """Run ROOM in the image, as a job is run. Return what it prints."""
    options, variables = job_options()
    variables |= {"LARGE": large}
    command = ("-c", ROOM)
    with container(
        *command, options=["--entrypoint=python", *options], image_name=name, **variables
    ) as running:
        ended = running.wait()
    assert ended.code == 0, ended.err
    return ended.out.splitlines()


PRINTED = ["Read-only file system", "500", "WorkingSpace(folder='/tmp', loadable=True)"]


def test_a_job_has_room():
    """500 MiB on the disk, and a shared library, while the root file system is read-only."""
    assert in_a_job(image(), "/scratch/large") == PRINTED


def test_another_image_has_room(folder):
    """The same in an image that knows nothing of it: its /tmp decides who may write there."""
    (folder / "Dockerfile").write_text(
        f"FROM {image()}\nUSER root\nRUN rm /scratch\nUSER 1000:1000\n"
    )
    engine("build", "--tag=keepfit-other", str(folder))
    try:
        assert in_a_job("keepfit-other", "/tmp/large") == PRINTED
    finally:
        engine("rmi", "--force", "keepfit-other")


@pytest.mark.parametrize(
    ("option", "loadable"),
    [("--tmpfs=/tmp:noexec", False), ("--tmpfs=/tmp:exec", True), ("--volume=/tmp", True)],
)
def test_shared_libraries_in_a_container(option, loadable):
    """What is logged of /tmp is what the engine makes of the option."""
    code = "import os; from keepfit.job.machine import working_space as w; "
    code += "print(w.find_working_space(os.environ).loadable)"
    options = ["--entrypoint=python", "--read-only", option]
    with container("-c", code, options=options) as running:
        assert running.wait().out == f"{loadable}\n"


def test_caches_where_home_is_read_only(folder):
    """A library that follows XDG_CACHE_HOME can write to it, and the log names the variables."""
    (folder / "train.py").write_text(
        "import os\nos.makedirs(os.environ['XDG_CACHE_HOME'] + '/models')\n"
        "print(os.environ['KERAS_HOME'])\n"
    )
    options = [f"--volume={folder}:/job", *HARDENED]
    with container("run", "train.py", options=options) as running:
        ended = running.wait()
    assert (ended.code, ended.out) == (0, "/tmp/.keepfit-home/.keras\n"), ended.err
    assert ended.one("home_read_only")["home"] == "/home/keepfit"


def test_an_image_with_the_script_in_it(folder):
    """The third way to run a script: an image FROM keepfit with COPY."""
    (folder / "train.py").write_text("import sys\nprint('mine', sys.argv[1:])\nsys.exit(7)\n")
    (folder / "Dockerfile").write_text(f"FROM {image()}\nCOPY train.py /job/\n")
    engine("build", "--tag=keepfit-derived", str(folder))
    try:
        with container("run", "train.py", "--x", image_name="keepfit-derived") as running:
            ended = running.wait()
    finally:
        engine("rmi", "--force", "keepfit-derived")
    assert (ended.code, ended.out) == (7, "mine ['--x']\n")


def test_a_read_only_folder(folder):
    """It exits with 78 and one clear line, not a stack trace."""
    (folder / "train.py").write_bytes(SMALL.read_bytes())
    options = [f"--volume={folder}:/job:ro", *HARDENED]
    with container("run", "train.py", "tfdata", options=options) as running:
        ended = running.wait()
    assert ended.code == 78, ended.err
    assert "Traceback" not in ended.err
    assert "/job/runs" in ended.err
