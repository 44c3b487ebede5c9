"""A client of S3 for commands that use more of S3 than a store."""

from __future__ import annotations

import os
from typing import Any

from keepfit.job.commands.failures import store_errors_exit


def s3_client() -> Any:
    """Return a client whose requests have the options that KEEPFIT_S3_* set."""
    from keepfit.callbacks.storage.s3.options import RequestOptions
    from keepfit.infra import aws

    with store_errors_exit():
        options = RequestOptions.of(os.environ)
    client = aws.client("s3")
    options.apply_to(client)
    return client
