# One image for every role, which the command chooses: `graphnode worker`, `graphnode migrate`, `graphnode doctor`, …
# Python is the minor version that CI runs the suite with. `make image-check` tries each line without Docker.

FROM python:3.11.14-slim-trixie AS build
WORKDIR /source
COPY locks/build.txt locks/worker.txt locks/
# Wheels alone, and those of the lock alone: nothing is compiled, and nothing comes that was not seen before.
RUN pip install --no-cache-dir --require-hashes --only-binary :all: --requirement locks/build.txt \
    && python -m venv --without-pip /opt/graphnode \
    && pip --python /opt/graphnode install --no-cache-dir --require-hashes --only-binary :all: --requirement locks/worker.txt
COPY pyproject.toml setup.cfg README.md LICENSE ./
COPY graphnode graphnode
RUN pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheels . \
    && pip --python /opt/graphnode install --no-cache-dir --no-deps --no-index /wheels/*.whl

# What the stand-in for the AI server thinks with is twice as big as the worker, and has no place in production.
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
# It writes nothing but to /tmp: the root file system may be read-only.
# SIGTERM reaches Dramatiq itself, which finishes what it is at: leave it GRAPHNODE_POLL_GRACE and
# GRAPHNODE_SHUTDOWN_TIMEOUT seconds before the kill.
# Whether it is alive: an outage of the database, of S3 or of SQS is no reason for a restart.
HEALTHCHECK --interval=30s --timeout=10s --start-period=90s CMD ["graphnode", "health"]
CMD ["graphnode", "worker"]

FROM runtime AS ai
COPY --from=build-ai /opt/graphnode /opt/graphnode
# It takes requests, and serves no health.
HEALTHCHECK NONE
CMD ["graphnode", "ai"]

# The last one is what `docker build .` makes.
FROM runtime AS worker
COPY --from=build /opt/graphnode /opt/graphnode
