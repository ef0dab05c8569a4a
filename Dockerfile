# The image, for machines that have Docker or the like and nothing else; `cargo xtask image` makes the same without it.
#   docker build --build-arg SOURCE_DATE_EPOCH=$(git log -1 --format=%ct) --tag remora .
FROM rust:1.95-bookworm AS build
ARG SOURCE_DATE_EPOCH
RUN apt-get update && apt-get install --yes --no-install-recommends ca-certificates musl-tools \
 && rustup target add "$(uname -m)-unknown-linux-musl"
WORKDIR /remora
COPY . .
# The eBPF toolchain: LLVM by apt, a pinned nightly compiler, bpf-linker.
RUN cargo xtask setup --only apt --only ebpf
RUN cargo xtask image --root-only /out

FROM scratch
COPY --from=build /out/ /
USER 65532:65532
ENTRYPOINT ["/remora"]
