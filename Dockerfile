# One image for every role. The command chooses the role: `graphnode worker`, `graphnode migrate`, `graphnode doctor`, …
# CI runs the tests with the same minor version of Python. `make image-check` runs each line without Docker.

FROM python:3.11.14-slim-trixie AS build
WORKDIR /source
COPY locks/build.txt locks/worker.txt locks/
# Only wheels, and only those of the lock: nothing is compiled, and every package was reviewed.
RUN pip install --no-cache-dir --require-hashes --only-binary :all: --requirement locks/build.txt \
    && python -m venv --without-pip /opt/graphnode \
    && pip --python /opt/graphnode install --no-cache-dir --require-hashes --only-binary :all: --requirement locks/worker.txt
COPY pyproject.toml setup.cfg README.md LICENSE ./
COPY graphnode graphnode
RUN pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheels . \
    && pip --python /opt/graphnode install --no-cache-dir --no-deps --no-index /wheels/*.whl

# The packages of the stand-in AI server are twice as large as the worker's, and production does not need them.
FROM build AS build-ai
COPY locks/ai.txt locks/
RUN pip --python /opt/graphnode install --no-cache-dir --require-hashes --only-binary :all: --requirement locks/ai.txt

# No compiler, no pip, no root.
FROM python:3.11.14-slim-trixie AS runtime
RUN pip uninstall --yes pip setuptools wheel \
    && rm -r /usr/local/lib/python3.11/ensurepip \
    && groupadd --system --gid 10001 graphnode \
    && useradd --system --no-create-home --home-dir /nonexistent --uid 10001 --gid 10001 graphnode
ENV PATH=/opt/graphnode/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 GRAPHNODE_HEALTH_PORT=8080
USER 10001:10001
WORKDIR /
# The worker writes to /tmp only, so the root file system may be read-only. Embeddings are spooled there: in a tmpfs they
# count as memory. GRAPHNODE_SPOOL_DIR names another place, which user 10001 must be able to write.
# SIGTERM reaches Dramatiq itself, which finishes running messages. Wait GRAPHNODE_POLL_GRACE and
# GRAPHNODE_SHUTDOWN_TIMEOUT seconds before a kill.
# The check asks on loopback, where health listens: nothing outside of the container can. GRAPHNODE_HEALTH_HOST=0.0.0.0 opens it.
# It is for liveness: an outage of the database, of S3 or of SQS is no reason for a restart.
HEALTHCHECK --interval=30s --timeout=10s --start-period=90s CMD ["graphnode", "health"]
CMD ["graphnode", "worker"]

FROM runtime AS ai
COPY --from=build-ai /opt/graphnode /opt/graphnode
# It has no health endpoint.
HEALTHCHECK NONE
CMD ["graphnode", "ai"]

# `docker build .` builds the last stage.
FROM runtime AS worker
COPY --from=build /opt/graphnode /opt/graphnode
