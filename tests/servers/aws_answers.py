"""A server on loopback with answers of AWS, for requests that no emulator implements."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

EC2 = "http://ec2.amazonaws.com/doc/2016-11-15/"


@dataclass(frozen=True)
class Reply:
    """An answer: the status and the body."""

    status: int
    body: str


@dataclass
class AwsAnswers:
    """A server with one answer for each operation; any other one is not allowed.

    Attributes:
        replies: answers by operation, or by operation and quota code or instance type.
        requests: the operation and the parameters of each request, in the order of arrival.
    """

    replies: dict[str, Reply]
    url: str = ""
    requests: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    @property
    def operations(self) -> list[str]:
        """The operations of all requests."""
        return [operation for operation, _ in self.requests]

    def answer(self, target: str | None, body: str) -> Reply:
        """Record a request and return its answer."""
        if target is None:  # the protocol of EC2
            sent = {name: values[0] for name, values in parse_qs(body).items()}
            operation, detail = sent["Action"], ""
        else:
            operation, sent = target.rpartition(".")[2], json.loads(body)
            filters = {f["Field"]: f["Value"] for f in sent.get("Filters", ())}
            detail = sent.get("QuotaCode") or filters.get("instanceType", "")
        self.requests.append((operation, sent))
        denied = ec2_error("UnauthorizedOperation", "You are not authorized.", 403)
        if target is not None:
            denied = json_error("AccessDeniedException", "User: x is not authorized")
        own = self.replies.get(f"{operation} {detail}", self.replies.get(operation))
        return own or denied


def ec2(operation: str, content: str) -> Reply:
    """Return an answer of EC2 with this content."""
    return Reply(200, f'<{operation}Response xmlns="{EC2}">{content}</{operation}Response>')


def ec2_error(code: str, message: str, status: int = 400) -> Reply:
    """Return an error of EC2."""
    error = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return Reply(status, f"<Response><Errors>{error}</Errors><RequestID>1</RequestID></Response>")


def quota(code: str, name: str, value: float) -> Reply:
    """Return the answer of GetServiceQuota."""
    found = {
        "ServiceCode": "ec2",
        "ServiceName": "Amazon Elastic Compute Cloud (Amazon EC2)",
        "QuotaArn": f"arn:aws:servicequotas:us-east-1:123456789012:ec2/{code}",
        "QuotaCode": code,
        "QuotaName": name,
        "Value": value,
        "Unit": "None",
        "Adjustable": True,
        "GlobalQuota": False,
    }
    return Reply(200, json.dumps({"Quota": found}))


def product(dollars: str) -> Reply:
    """Return the answer of GetProducts with one on-demand price."""
    dimension = {"unit": "Hrs", "pricePerUnit": {"USD": dollars}}
    terms = {"OnDemand": {"X.JRTCKXETXF": {"priceDimensions": {"X.JRTCKXETXF.6YS6": dimension}}}}
    return Reply(200, json.dumps({"FormatVersion": "aws_v1", "PriceList": [json.dumps(
        {"product": {}, "serviceCode": "AmazonEC2", "terms": terms}
    )]}))  # fmt: skip


def json_error(code: str, message: str) -> Reply:
    """Return an error of a service with JSON."""
    return Reply(400, json.dumps({"__type": code, "Message": message}))


@contextmanager
def aws_answers(replies: dict[str, Reply]) -> Iterator[AwsAnswers]:
    """Serve these answers until the block ends."""
    answers = AwsAnswers(replies)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            body = self.rfile.read(length).decode()
            reply = answers.answer(self.headers.get("X-Amz-Target"), body)
            content = reply.body.encode()
            self.send_response(reply.status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: object) -> None:
            """Write nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        answers.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield answers
        finally:
            server.shutdown()
            thread.join()
