FROM python:3.11-slim-bookworm AS base


FROM base AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
RUN python -m venv --without-pip /venv

# torch on its own, since it is large. PyPI has no build that meets its +cpu pin: so never CUDA.
COPY constraints.txt ./
RUN pip --python /venv/bin/python install --no-deps -c constraints.txt \
        --extra-index-url "$TORCH_INDEX" torch

COPY pyproject.toml ./
RUN python -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
e = p['optional-dependencies']; print(*p['dependencies'], *e['automem'], *e['cache'], *e['pgvector'], *e['pinecone'], *e['redis'], *e['weaviate'], *e['embedding'], *e['journal'], sep='\n')" \
    > requirements.txt \
    && pip --python /venv/bin/python install -c constraints.txt -r requirements.txt

# A fifth of the size is the packages' own tests and torch's C++ headers.
RUN cd /venv/lib/python3.11/site-packages \
    && rm -rf torch/include torch/bin/*[Tt]est* \
    && find . -depth -type d \( -name test -o -name tests \) -exec rm -rf {} +

# The default model's graph, so that a start imports no torch and writes nothing.
COPY app app
RUN mkdir /models && MEMORY_EMBEDDING_CACHE_DIR=/models HF_HUB_OFFLINE=1 \
        /venv/bin/python -m app.embedding.graph.export


FROM base
RUN groupadd --gid 10001 app && useradd --uid 10001 --gid app --no-create-home app
WORKDIR /srv
COPY --from=build /venv /venv
COPY --from=build /models /models
COPY alembic.ini ./
COPY alembic alembic
COPY app app

ENV PATH=/venv/bin:$PATH \
    HF_HUB_OFFLINE=1 \
    MEMORY_EMBEDDING_CACHE_DIR=/models \
    MEMORY_DRIVER=pgvector \
    MEMORY_HOST=0.0.0.0 \
    MEMORY_ALLOWED_HOSTS=localhost,api \
    MEMORY_PORT=8000
USER 10001:10001
EXPOSE 8000

# http.client, unlike urllib.request, never asks a proxy that the environment names.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import http.client, os, sys; c = http.client.HTTPConnection('127.0.0.1', int(os.environ['MEMORY_PORT']), timeout=4); c.request('GET', '/health/ready'); sys.exit(c.getresponse().status != 200)"]

CMD ["python", "-m", "app", "serve"]
