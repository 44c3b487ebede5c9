# keepfit in a container, on a CPU or (--build-arg VARIANT=gpu) on NVIDIA GPUs.
#
#   docker run keepfit                                       trains on MNIST
#   docker run -v "$PWD:/job" keepfit run train.py           runs your script
#   FROM keepfit, and COPY train.py /job/                    builds your own image
#
# keepfit is the first process, without a shell in between, so signals reach it.
# Pinned, with Python 3.11.16, as of 2026-09-19; scripts/base-image renews it (docs/containers.md).
ARG BASE=python:3.11-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b

FROM ${BASE} AS build
ARG VARIANT=cpu
WORKDIR /src
COPY requirements*.lock ./
RUN python -m venv /opt/venv \
 && /opt/venv/bin/pip install --no-cache-dir --require-hashes -r requirements-${VARIANT}.lock \
 # Headers for compiling custom ops, and libclang: 350 MB that training does not need.
 && /opt/venv/bin/pip uninstall --yes libclang \
 && rm -rf /opt/venv/lib/python3.11/site-packages/tensorflow/include
COPY pyproject.toml README.md LICENSE ./
COPY callbacks callbacks
COPY infra infra
COPY job job
# The package: its callbacks, infra and job are links to the folders above; COPY keeps them links.
COPY src src
RUN /opt/venv/bin/pip install --no-cache-dir --no-deps --no-build-isolation . \
 && ln -s /opt/venv/lib/python3.11/site-packages/keepfit/job/examples/mnist.py /opt/venv/mnist.py

FROM ${BASE}
ARG VARIANT=cpu
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="keepfit" \
      org.opencontainers.image.description="Keeps Keras' model.fit running on machines that disappear" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}-${VARIANT}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /opt/venv /opt/venv
# /scratch is another name of /tmp, which AWS Batch puts onto the instance's disk.
RUN useradd --uid 1000 --create-home keepfit && mkdir /job && chown keepfit /job \
 && ln -s tmp /scratch
USER 1000:1000
WORKDIR /job
# With a read-only root file system: --tmpfs /tmp or -v /tmp, and a volume or S3 for the store.
ENV PATH=/opt/venv/bin:$PATH \
    HOME=/home/keepfit \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
ENTRYPOINT ["keepfit"]
CMD ["run", "/opt/venv/mnist.py"]
