# The worker alone: no compiler, no development stack, no root.
FROM python:3.11-slim AS build
WORKDIR /source
COPY pyproject.toml setup.cfg README.md ./
COPY graphnode graphnode
RUN python -m venv /opt/graphnode && /opt/graphnode/bin/pip install --no-cache-dir '.[otel]'

FROM python:3.11-slim
RUN useradd --system --no-create-home --uid 10001 graphnode
COPY --from=build /opt/graphnode /opt/graphnode
ENV PATH=/opt/graphnode/bin:$PATH PYTHONUNBUFFERED=1 GRAPHNODE_HEALTH_PORT=8080
USER graphnode
WORKDIR /home
# SIGTERM reaches Dramatiq itself, which finishes what it is at: leave it GRAPHNODE_POLL_GRACE and
# GRAPHNODE_SHUTDOWN_TIMEOUT seconds before the kill.
# Whether it is alive: an outage of the database, of S3 or of SQS is no reason for a restart.
HEALTHCHECK --interval=30s --timeout=10s --start-period=90s CMD ["graphnode", "health"]
CMD ["graphnode", "worker"]
