# keepfit in a container: `docker run IMAGE` trains on MNIST, `docker run -v $PWD:/job IMAGE run
# train.py` runs a script of yours. keepfit is the first process, so signals reach it.
FROM python:3.11-slim-bookworm AS build
WORKDIR /src
RUN python -m venv /opt/venv
COPY requirements.lock ./
RUN /opt/venv/bin/pip install --no-cache-dir --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY callbacks callbacks
COPY infra infra
COPY job job
RUN /opt/venv/bin/pip install --no-cache-dir --no-deps --no-build-isolation .

FROM python:3.11-slim-bookworm
COPY --from=build /opt/venv /opt/venv
RUN useradd --create-home keepfit && mkdir /job && chown keepfit /job
USER keepfit
WORKDIR /job
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1
ENTRYPOINT ["keepfit"]
CMD ["run", "/opt/venv/lib/python3.11/site-packages/job/examples/mnist.py"]
