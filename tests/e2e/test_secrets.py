"""Secrets in addresses, arguments and variables: no store, log line or traceback has one."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from typer.testing import CliRunner

from keepfit.callbacks.logs import logger
from keepfit.callbacks.storage.s3.retries import RetryPolicy
from keepfit.job.cli import app
from tests.e2e.cases import stopping, stored, write
from tests.e2e.process import run

SECRETS = [f"secret-of-{place}-1234" for place in ("user", "root", "path", "watch", "proxy")]
USER, ROOT, PATH, WATCH, PROXY = SECRETS

SCRIPT = """
import keepfit

places = os.environ["PLACES"].split()
kinds = (keras.callbacks.RemoteMonitor, keepfit.RemoteMonitor)
path = "/p?token=" + os.environ["TOKEN"]
monitors = [kind(place, path) for kind, place in zip(kinds, places)]
model = build()
fit(model, *monitors)
raise OSError("the proxy " + os.environ["HTTPS_PROXY"] + " is down")
"""


@contextmanager
def refusing() -> Iterator[tuple[int, list[str]]]:
    """A server that answers 404 to every report and 503 to every other request.

    It yields its port, and the authorisation and path of each request.
    """
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"] or 0))
            seen.append(f"{self.command} {self.headers['Authorization']} {self.path}")
            self.send_error(404 if self.command == "POST" else 503)

        do_POST = do_GET = answer  # noqa: N815 # http.server's names

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port, seen
        server.shutdown()


def found_in(texts: list[str]) -> list[str]:
    """Return the secrets that one of the texts contains."""
    return [secret for secret in SECRETS if any(secret in text for text in texts)]


def test_a_killed_run(tmp_path):
    """The store, all output of both attempts and of the commands are without any of them."""
    folder = write(tmp_path / "job", SCRIPT)
    flags = ("--deterministic", "--save-every", "9 batches")
    with refusing() as (port, seen):
        at = f"127.0.0.1:{port}"
        env = {
            "PLACES": f"http://me:{USER}@{at} http://{at}",
            "TOKEN": PATH,
            "HTTPS_PROXY": f"http://me:{PROXY}@127.0.0.1:9",
            "NO_PROXY": "127.0.0.1",
            "KEEPFIT_WATCH": f"http://me:{USER}@{at}/notice?token={WATCH}",
        }
        with stopping(folder, *flags, at=11, **env) as attempt:
            attempt.until_all("moment\n", '"step": 9,', '"event": "report_failed"')
            attempt.process.send(signal.SIGKILL)
            killed = attempt.process.wait()
        env["TOKEN"] = f"{PATH}-renewed"
        ended = run(folder, *flags, "train.py", **env)
    assert ended.code == 1, ended.err
    assert ended.one("resumed")
    output = [killed.out, killed.err, ended.out, ended.err]
    objects = stored(folder)
    names = [name.partition("/reports/")[2] for name in objects if "/reports/" in name]
    assert len(names) == 6, "each of two monitors reports three epochs, each once"
    posts = [request for request in seen if request.startswith("POST")]
    assert 5 <= len(posts) <= 6, "a report is sent again"
    assert any(PATH in request for request in posts)
    assert any(request.startswith("GET Basic ") and WATCH in request for request in seen)
    assert ended.named("report_failed")
    assert ended.one("machine_not_watched")["url"].startswith("http://***@127.0.0.1:")
    assert "OSError: the proxy http://***@127.0.0.1:9 is down" in ended.err
    store = f"file://{folder}/runs"
    (listed,) = json.loads(CliRunner().invoke(app, ["ls", store, "--json"]).stdout)
    shown = [
        CliRunner().invoke(app, [command, listed["run"], "--store", store, *flags]).output
        for command, *flags in (("show",), ("show", "--json"), ("verify",), ("prune", "--yes"))
    ]
    texts = [
        *shown,
        *objects,
        *(content.decode("latin-1") for content in objects.values()),
        *output,
    ]
    assert found_in(texts) == []


BAD = {
    "endpoint": {"AWS_ENDPOINT_URL": f"http://me:{USER}@127.0.0.1:9/?k={ROOT}"},
    "endpoint that is no URL": {"AWS_ENDPOINT_URL": f"http://me:{USER}@127.0.0.1:port"},
    "proxy": {"HTTP_PROXY": f"http://me:{PROXY}@127.0.0.1:9"},
    "proxy that is no URL": {"HTTP_PROXY": f"me:{PROXY}@127.0.0.1:port"},
    "store": {"KEEPFIT_STORE": f"s3://me:{USER}@bucket/runs?k={ROOT}"},
    "store of another kind": {"KEEPFIT_STORE": f"https://me:{USER}@host/runs?k={ROOT}"},
    "watch": {"KEEPFIT_WATCH": f"ftp://me:{USER}@host/x?k={WATCH}"},
}


@pytest.mark.parametrize("case", BAD)
def test_an_error_line(case, tmp_path, monkeypatch):
    """An unusable or unreachable address is one line without a secret."""
    (tmp_path / "train.py").write_text("")
    settings = {
        "AWS_ENDPOINT_URL": "http://s3.invalid:9",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "KEEPFIT_STORE": "s3://bucket/runs",
        "AWS_EC2_METADATA_DISABLED": "true",
    } | BAD[case]
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3", raising=False)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    _, *others = RetryPolicy.__init__.__defaults__
    monkeypatch.setattr(RetryPolicy.__init__, "__defaults__", (0.1, *others))  # seconds, not 60
    command = ["run", str(tmp_path / "train.py")] if case == "watch" else ["ls"]
    ended = CliRunner().invoke(app, command)
    logger.reset()
    assert ended.exit_code in (2, 75, 78), ended.output
    assert ended.exception is None or isinstance(ended.exception, SystemExit)
    *_, line = ended.stderr.splitlines()
    assert ('"event": "refused"' if case == "watch" else "error: refused: ") in line
    assert found_in([ended.stdout, ended.stderr]) == []
    assert "***" in line or case.startswith("proxy")
