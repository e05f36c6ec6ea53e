# syntax=docker/dockerfile:1
# Weir in an image: `docker build -t weir .`
#
# To pin by digest, write NAME:TAG@sha256:… in both FROM lines, as `docker buildx imagetools inspect NAME:TAG` prints it.
# Both stages are the same Debian: the binary needs the builder's glibc and OpenSSL 3.

FROM rust:1.95.0-slim-bookworm AS build

# As xtask/prerequisites.sh says; g++ and make are in build-essential. librdkafka's curl is built from source.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends build-essential cmake libssl-dev pkg-config zlib1g-dev \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /src
COPY . .
# The target folder is a cache and no part of the layer, so the binary is copied out of it. Cargo goes by the times of
# files, which may be older than a build of another checkout in that cache: `touch` has all of Weir's own built anew.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/usr/local/cargo/git \
    --mount=type=cache,id=weir-target,target=/src/target,sharing=locked \
    find . -path ./target -prune -o -type f -exec touch {} + \
    && cargo build --release --locked --package cli --bin weir \
    && cp target/release/weir /usr/local/bin/weir

FROM debian:bookworm-20260824-slim

# curl is for health checks; certificates are for brokers and databases with TLS.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates curl libssl3 zlib1g \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 weir \
    && useradd --uid 10001 --gid weir --no-create-home --home-dir /var/lib/weir --shell /usr/sbin/nologin weir \
    && install --directory --owner=weir --group=weir --mode=0700 /var/lib/weir

COPY --from=build /usr/local/bin/weir /usr/local/bin/weir

# By number: Kubernetes can then see that it is not root.
USER 10001:10001
# A weir.toml that is mounted here is read. These two win over it.
WORKDIR /etc/weir
ENV WEIR_DATA=/var/lib/weir \
    WEIR_SINK__PATH=/var/lib/weir/history.db
VOLUME ["/var/lib/weir"]
EXPOSE 8080
STOPSIGNAL SIGTERM
ENTRYPOINT ["weir"]
CMD ["--help"]
