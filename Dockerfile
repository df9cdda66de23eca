# One file for every image: door, worker-cpu, worker-gpu, audit, billing.
#
#   make image                                 (docs/operations.md says more)
#   docker build --target audit -t guise-audit .
#
# BASE is what an image runs on: glibc, and a Python 3.11 or newer as `python3`.  TOOLS is
# the same with `python3 -m venv` and `strip`, and builds.  For worker-gpu both have CUDA 12 and
# cuDNN 9.  Both by digest, where the same image must come out again.
#
# Where packages come from a mirror, it is told by secrets, `pip.conf` and `ca.crt`: they
# are there while packages are fetched, and no layer of an image has a trace of them.
ARG BASE=docker.io/library/python:3.11-slim-bookworm
ARG TOOLS=docker.io/library/python:3.11-bookworm

# --- what builds: none of it is in an image ------------------------------------

FROM ${TOOLS} AS tools
# Sets are written to bytecode in the order of their hashes; zip files have times.
ENV PYTHONHASHSEED=0 SOURCE_DATE_EPOCH=1577836800 PYTHONDONTWRITEBYTECODE=1 \
    PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY requirements/images/tools.lock requirements/images/
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    --mount=type=secret,id=ca.crt,target=/etc/ssl/certs/ca-certificates.crt \
    python3 -m venv /tools \
    && /tools/bin/pip install --quiet --no-deps --require-hashes \
        -r requirements/images/tools.lock
COPY pyproject.toml README.md LICENSE ./
COPY functions functions
COPY models models
COPY knative knative
RUN /tools/bin/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir /wheel .
COPY tools/image_packages.py tools/

FROM tools AS door-packages
COPY requirements/images/door.lock requirements/images/
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    --mount=type=secret,id=ca.crt,target=/etc/ssl/certs/ca-certificates.crt \
    python3 tools/image_packages.py door

FROM tools AS worker-cpu-packages
COPY requirements/images/worker-cpu.lock requirements/images/
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    --mount=type=secret,id=ca.crt,target=/etc/ssl/certs/ca-certificates.crt \
    python3 tools/image_packages.py worker-cpu

FROM tools AS worker-gpu-packages
COPY requirements/images/worker-gpu.lock requirements/images/
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    --mount=type=secret,id=ca.crt,target=/etc/ssl/certs/ca-certificates.crt \
    python3 tools/image_packages.py worker-gpu

FROM tools AS audit-packages
COPY requirements/images/audit.lock requirements/images/
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    --mount=type=secret,id=ca.crt,target=/etc/ssl/certs/ca-certificates.crt \
    python3 tools/image_packages.py audit

FROM tools AS billing-packages
COPY requirements/images/billing.lock requirements/images/
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    --mount=type=secret,id=ca.crt,target=/etc/ssl/certs/ca-certificates.crt \
    python3 tools/image_packages.py billing

# --- what runs -----------------------------------------------------------------

FROM ${BASE} AS runtime
# What would install or build something has no place where nothing is installed.
RUN rm -rf /usr/local/lib/python3*/site-packages/pip* \
    /usr/local/lib/python3*/site-packages/setuptools* \
    /usr/local/lib/python3*/site-packages/wheel* \
    /usr/local/lib/python3*/ensurepip /usr/local/bin/pip* \
    /usr/lib/python3/dist-packages/pip* /usr/bin/pip*
ARG VERSION=0.1.0
ARG REVISION=
LABEL org.opencontainers.image.licenses=Apache-2.0 \
    org.opencontainers.image.vendor=Guise \
    org.opencontainers.image.version=${VERSION} \
    org.opencontainers.image.revision=${REVISION}
# Nothing is written: the bytecode is there, and the root file system is read-only.
ENV PATH=/opt/guise/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PORT=8080 HOME=/tmp
# Code comes from where nobody can write: Python and gunicorn look where they stand, too.
ENV PYTHONSAFEPATH=1
WORKDIR /
USER 65532:65532
# gunicorn listens on PORT.  Each image adds how many threads answer, how many seconds a
# job in hand has after SIGTERM, and the function; a test holds it to the manifests.
ENTRYPOINT ["gunicorn", "-k", "functions.server.Patient", "--workers", "1", \
    "--timeout", "0", "--worker-tmp-dir", "/tmp", "--no-control-socket"]

# The weights lie below all code: a new version of the code leaves the layer on the node.
# build/pack is a prepared pack, or empty where an image volume brings it; `make image`
# makes the folder.
FROM runtime AS weights
COPY build/pack/ /models/

FROM runtime AS door
LABEL org.opencontainers.image.title=guise-door \
    org.opencontainers.image.description="The public HTTP API, and the sweeper"
COPY --from=door-packages /opt/guise /opt/guise
CMD ["--threads", "48", "--graceful-timeout", "565", "functions.swap.door:create_app()"]

FROM weights AS worker-cpu
LABEL org.opencontainers.image.title=guise-worker-cpu \
    org.opencontainers.image.description="The worker, on CPUs"
COPY --from=worker-cpu-packages /opt/guise /opt/guise
CMD ["--threads", "48", "--graceful-timeout", "565", "functions.swap.worker:create_app()"]

FROM weights AS worker-gpu
LABEL org.opencontainers.image.title=guise-worker-gpu \
    org.opencontainers.image.description="The worker, on NVIDIA GPUs"
COPY --from=worker-gpu-packages /opt/guise /opt/guise
CMD ["--threads", "48", "--graceful-timeout", "565", "functions.swap.worker:create_app()"]

FROM runtime AS audit
LABEL org.opencontainers.image.title=guise-audit \
    org.opencontainers.image.description="The audit log"
COPY --from=audit-packages /opt/guise /opt/guise
CMD ["--threads", "40", "--graceful-timeout", "25", "functions.audit.app:create_app()"]

FROM runtime AS billing
LABEL org.opencontainers.image.title=guise-billing \
    org.opencontainers.image.description="Usage and invoices"
COPY --from=billing-packages /opt/guise /opt/guise
CMD ["--threads", "40", "--graceful-timeout", "565", "functions.billing.app:create_app()"]
