# One image for the server and the worker: `active-learning serve` and `active-learning worker`.
FROM node:22-slim AS assets
WORKDIR /assets
COPY backend/dashboard/package.json backend/dashboard/package-lock.json ./
RUN npm ci --ignore-scripts --no-audit --no-fund && npm run vendor

FROM python:3.12-slim

# Training leaves much memory with the allocator's arenas, one a thread, unless there are few of them.
ENV PYTHONUNBUFFERED=1 MALLOC_ARENA_MAX=2 MODEL_DIR=/data HF_HOME=/data/hub \
  XDG_CACHE_HOME=/tmp MPLCONFIGDIR=/tmp/matplotlib

WORKDIR /app
RUN pip install --no-cache-dir uv
COPY pyproject.toml requirements.lock README.md LICENSE ./
COPY backend backend
COPY --from=assets /assets/static/vendor backend/dashboard/static/vendor
COPY strategies strategies
# The lock file constrains; only what the package itself needs goes in.
RUN uv pip install --system --no-cache --compile-bytecode --constraint requirements.lock ".[ray,s3]"

RUN useradd --uid 10001 --create-home active-learning && mkdir /data && chown active-learning /data
USER active-learning
VOLUME /data
EXPOSE 9090

HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
  CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://localhost:9090/health', timeout=2)"]
CMD ["active-learning", "serve"]
