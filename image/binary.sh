#!/usr/bin/env bash
# Builds what the image consists of, for linux/ARCH, in the folder ROOT: the static program and the certificates of
# public authorities. Where it is built leaves no trace in it.
# usage: CARGO_AUDITABLE=… binary.sh ARCH ROOT
set -euo pipefail
cd "$(dirname "$0")/.."
arch=$1 root=$2

image/needs.sh "$arch" binary
case $arch in
amd64) machine=x86_64 ;;
arm64) machine=aarch64 ;;
esac
target=$machine-unknown-linux-musl
rustup target list --installed | grep -qx "$target" || rustup target add "$target" >&2

# The C compiler makes objects only: they are linked with the musl that comes with Rust, by the linker that comes with
# Rust, so that the program depends on nothing else that is installed.
if [ "$arch" = "$(dpkg --print-architecture)" ]; then
    compiler=musl-gcc cflags=
else
    compiler=$machine-linux-gnu-gcc
    cflags="-nostdinc -isystem /usr/include/$machine-linux-musl -isystem $("$compiler" -print-file-name=include)"
    [ "$arch" != arm64 ] || cflags+=" -mno-outline-atomics"
fi
# AES for the newest processors only, which is 680 KB of unrolled loops: streams of gigabytes gain, tokens do not.
[ "$arch" != amd64 ] || cflags+=" -DMY_ASSEMBLER_IS_TOO_OLD_FOR_512AVX"
export "CC_${target//-/_}=$compiler" "CFLAGS_${target//-/_}=$cflags"

# Panics name source files; relative to their crate is enough to find them.
cargo fetch --locked --quiet --target "$target"
remap=("--remap-path-prefix=$PWD/=")
for registry in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*; do
    remap+=("--remap-path-prefix=$registry/=")
done
[ -z "${CARGO_TARGET_DIR:-}" ] || remap+=("--remap-path-prefix=$(realpath -m "$CARGO_TARGET_DIR")/=target/")
# Half a megabyte of relocations becomes 20 KB. Addresses stay random. Functions that came out alike are there once, which
# is a tenth of a megabyte: no Rust program may count on their addresses to differ.
rustflags=(-C linker=rust-lld -C link-arg=--pack-dyn-relocs=relr -C link-arg=--icf=all "${remap[@]}")
CARGO_ENCODED_RUSTFLAGS=$(IFS=$'\x1f' && echo -n "${rustflags[*]}")
export CARGO_ENCODED_RUSTFLAGS

"$CARGO_AUDITABLE" auditable build --locked --profile dist --bin tokenward --target "$target"

rm -rf "$root"
install -D -m 755 "${CARGO_TARGET_DIR:-target}/$target/dist/tokenward" "$root/tokenward"
# Of Debian's package and no others: a machine may trust more authorities than a public image should.
install -d -m 755 "$root/etc" "$root/etc/ssl" "$root/etc/ssl/certs"
(cd /usr/share/ca-certificates/mozilla && LC_ALL=C && cat -- *.crt) >"$root/etc/ssl/certs/ca-certificates.crt"
chmod 644 "$root/etc/ssl/certs/ca-certificates.crt"
