#!/usr/bin/env bash
# Installs Debian's packages that the image for linux/ARCH is built with, where they are missing, or says which ones are.
# usage: needs.sh ARCH [binary] [pack]
set -euo pipefail
arch=${1:-unknown}
shift

if ! command -v dpkg >/dev/null; then
    echo "the image is built with Debian's packages, and there is no dpkg here; see docs/image.md for Docker" >&2
    exit 1
fi
case $arch in
amd64) machine=x86_64 ;;
arm64) machine=aarch64 ;;
*)
    echo "the image cannot be built for $arch; set IMAGE_ARCH to amd64 or arm64" >&2
    exit 1
    ;;
esac

packages=()
need() { # COMMAND-OR-FILE PACKAGE
    command -v "$1" >/dev/null || [ -e "$1" ] || packages+=("$2")
}
for part in "$@"; do
    case $part in
    binary)
        need /usr/share/ca-certificates/mozilla ca-certificates
        if [ "$arch" = "$(dpkg --print-architecture)" ]; then
            need musl-gcc musl-tools
        else
            need "$machine-linux-gnu-gcc" "gcc-${machine/_/-}-linux-gnu"
            need "/usr/include/$machine-linux-musl" "musl-dev:$arch"
        fi
        ;;
    pack) need buildah buildah ;;
    esac
done
[ ${#packages[@]} -gt 0 ] || exit 0

if [ "$(id -u)" != 0 ]; then
    echo "packages are missing that the image is built with: ${packages[*]}; as root: image/needs.sh $arch $*" >&2
    exit 1
fi
echo "installing ${packages[*]}" >&2
for package in "${packages[@]}"; do
    case $package in *:*) dpkg --add-architecture "${package#*:}" ;; esac
done
apt-get -o DPkg::Lock::Timeout=300 update -qq
DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
