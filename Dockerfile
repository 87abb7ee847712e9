# The image: the program, the certificates of public authorities, nothing else. docs/image.md has how to build it.

# What is built here is put together by buildah in `make image`, from a folder that stands in for this stage.
FROM --platform=$BUILDPLATFORM rust:1.95.0-bookworm AS build
ARG TARGETARCH
WORKDIR /src
# Before the sources, so that a change of them doesn't install it again.
COPY Makefile rust-toolchain.toml ./
COPY image/needs.sh image/
RUN image/needs.sh "$TARGETARCH" binary
RUN make image-tools
COPY . .
RUN make image-binary IMAGE_ARCH="$TARGETARCH" IMAGE_ROOT=/image

FROM scratch
ARG VERSION=unknown
ARG REVISION=unknown
ARG SOURCE=
LABEL org.opencontainers.image.title="tokenward" \
      org.opencontainers.image.description="Keeps the credentials of integrations alive on Kubernetes: OAuth tokens refreshed into Secrets before they expire" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}"
COPY --from=build /image/ /
# Of the allocator: no memory is taken before it is needed, and what is free goes back at once (docs/performance.md).
ENV MIMALLOC_ARENA_EAGER_COMMIT=0 MIMALLOC_PURGE_DELAY=0
# By number, so that Kubernetes can see that it is not root.
USER 65532:65532
ENTRYPOINT ["/tokenward"]
