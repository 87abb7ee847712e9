#!/usr/bin/env bash
# Installs Debian's packages that the image is built with, where they are missing, or says which ones are.
# usage: needs.sh binary|pack ARCH
set -euo pipefail
what=$1 arch=$2

packages=()
need() { # COMMAND-OR-FILE PACKAGE
    command -v "$1" >/dev/null || [ -e "$1" ] || packages+=("$2")
}
case $what in
binary)
    need /usr/share/ca-certificates/mozilla ca-certificates
    if [ "$arch" = "$(dpkg --print-architecture)" ]; then
        need musl-gcc musl-tools
    else
        case $arch in
        amd64) machine=x86_64 ;;
        arm64) machine=aarch64 ;;
        esac
        need "$machine-linux-gnu-gcc" "gcc-${machine/_/-}-linux-gnu"
        need "/usr/include/$machine-linux-musl" "musl-dev:$arch"
    fi
    ;;
pack)
    need buildah buildah
    ;;
esac
[ ${#packages[@]} -gt 0 ] || exit 0

if [ "$(id -u)" != 0 ]; then
    echo "the image is built with packages that are missing here; as root: image/needs.sh $what $arch (installs ${packages[*]})" >&2
    exit 1
fi
echo "installing ${packages[*]}" >&2
for package in "${packages[@]}"; do
    case $package in *:*) dpkg --add-architecture "${package#*:}" ;; esac
done
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
