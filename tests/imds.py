"""An emulator of the instance metadata service, as AWS documents it.

Start it with `python -m tests.imds --spot-in 60s`.

Point a job to it with AWS_EC2_METADATA_SERVICE_ENDPOINT=http://127.0.0.1:1338.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from keepfit.callbacks.engine import save_policy

TTL, TOKEN = "X-aws-ec2-metadata-token-ttl-seconds", "X-aws-ec2-metadata-token"
SPOT, REBALANCE = "spot/instance-action", "events/recommendations/rebalance"
MAINTENANCE, AUTOSCALING = "events/maintenance/scheduled", "autoscaling/target-lifecycle-state"


@dataclass
class Machine:
    """The state of the emulated machine, which a test may change at any time.

    Attributes:
        documents: texts by their path below /latest/meta-data/; all other paths are 404.
        status: the status of the response to every valid request, if set.
        hangs: no request for a token gets a response, as with a hop limit of 1.
        clock_ahead: seconds by which its clock is ahead of this process's; None: it sends no Date.
        open: requests need no token, as with another kind of server.
        life: seconds after which a token expires.
        tokens: the expiry of each token, in time.monotonic().
        requests: the method and path of each request.
        released: set at the end, so that hanging requests return.
    """

    documents: dict[str, str] = field(default_factory=lambda: {MAINTENANCE: "[]"})
    status: int | None = None
    hangs: bool = False
    clock_ahead: float | None = 0.0
    open: bool = False
    life: float = 21600
    tokens: dict[str, float] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)

    def now(self) -> datetime:
        """Return the time on the machine's own clock."""
        return datetime.now(UTC) + timedelta(seconds=self.clock_ahead or 0.0)

    def interrupt(self, seconds: float, action: str = "terminate") -> None:
        """Publish a notice that the instance will be taken away in so many seconds."""
        at = self.now() + timedelta(seconds=seconds)
        self.documents[SPOT] = json.dumps({"action": action, "time": f"{at:%Y-%m-%dT%H:%M:%SZ}"})

    def recommend(self) -> None:
        """Publish a rebalance recommendation: the instance is at elevated risk."""
        self.documents[REBALANCE] = json.dumps({"noticeTime": f"{self.now():%Y-%m-%dT%H:%M:%SZ}"})


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    machine: Machine

    def do_PUT(self) -> None:
        self.machine.requests.append(f"PUT {self.path}")
        if self.machine.hangs:
            self.machine.released.wait()
            self.close_connection = True
            return
        life = self.headers.get(TTL, "")
        if self.path != "/latest/api/token":
            self._answer(403)
        elif not life.isdigit() or not 1 <= int(life) <= 21600:
            self._answer(400)
        elif self.machine.status:
            self._answer(self.machine.status)
        else:
            token = uuid.uuid4().hex
            self.machine.tokens[token] = time.monotonic() + min(int(life), self.machine.life)
            self._answer(200, token)

    def do_GET(self) -> None:
        self.machine.requests.append(f"GET {self.path}")
        text = self.machine.documents.get(self.path.removeprefix("/latest/meta-data/"))
        token = self.headers.get(TOKEN, "")
        valid = self.machine.tokens.get(token, 0.0) >= time.monotonic()
        if not valid and not self.machine.open:
            self._answer(401)
        elif self.machine.status:
            self._answer(self.machine.status)
        else:
            self._answer(404 if text is None else 200, text or "")

    def _answer(self, status: int, text: str = "") -> None:
        body = (text if status == 200 else str(status)).encode()
        self.send_response_only(status)
        if self.machine.clock_ahead is not None:
            self.send_header("Date", format_datetime(self.machine.now(), usegmt=True))
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def serving(machine: Machine, port: int = 0):
    """Serve the machine's metadata until the block ends, and yield the URL."""
    handler = type("Handler", (_Handler,), {"machine": machine})
    server = ThreadingHTTPServer(("127.0.0.1", port), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), name="imds", daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        machine.released.set()
        server.shutdown()
        server.server_close()
        thread.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=1338)
    parser.add_argument("--spot-in", type=seconds, help="time until the notice: 60s, 2min")
    parser.add_argument(
        "--left", type=seconds, default=120.0, help="from the notice to the end [2min]"
    )
    parser.add_argument("--action", default="terminate", choices=["terminate", "stop", "hibernate"])
    parser.add_argument("--rebalance-in", type=seconds, help="time until the recommendation")
    options = parser.parse_args()
    machine = Machine()
    timers = []
    if options.spot_in is not None:
        arguments = [options.left, options.action]
        timers.append(threading.Timer(options.spot_in, machine.interrupt, arguments))
    if options.rebalance_in is not None:
        timers.append(threading.Timer(options.rebalance_in, machine.recommend))
    with serving(machine, options.port) as url:
        print(f"AWS_EC2_METADATA_SERVICE_ENDPOINT={url}", flush=True)
        for timer in timers:
            timer.daemon = True
            timer.start()
        threading.Event().wait()


def seconds(text: str) -> float:
    """Return the seconds of a text like 60s or 2min."""
    duration = save_policy.parse_duration(text)
    if duration is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time such as 60s or 2min")
    return duration


if __name__ == "__main__":
    main()
