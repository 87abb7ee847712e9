#!/usr/bin/env bash
# Makes the image of the Dockerfile's last stage for linux/ARCH: FOLDER/tokenward.tar, a docker-archive, and
# FOLDER/digest, the digest of its configuration, which is the same for the same content. FOLDER/build stands in for the
# stage of that name. Of the environment: SOURCE_DATE_EPOCH, IMAGE_NAME, VERSION, REVISION, SOURCE.
# usage: pack.sh ARCH FOLDER
set -euo pipefail
cd "$(dirname "$0")/.."
arch=$1 folder=$2

image/needs.sh "$arch" pack
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir "$scratch/context"
# Nothing is pulled, so that there is nothing to verify.
echo '{"default": [{"type": "insecureAcceptAnything"}]}' >"$scratch/policy.json"
buildah() {
    command buildah --storage-driver vfs --root "$scratch/root" --runroot "$scratch/run" "$@"
}
buildah bud --quiet --signature-policy "$scratch/policy.json" --isolation chroot --format oci \
    --platform "linux/$arch" --build-context "build=$folder/build" --timestamp "$SOURCE_DATE_EPOCH" \
    --identity-label=false --build-arg "VERSION=$VERSION" --build-arg "REVISION=$REVISION" \
    --build-arg "SOURCE=$SOURCE" --tag "$IMAGE_NAME" --iidfile "$scratch/id" --file Dockerfile "$scratch/context" >/dev/null
buildah push --quiet --signature-policy "$scratch/policy.json" "$IMAGE_NAME" "docker-archive:$scratch/image.tar:$IMAGE_NAME" >/dev/null
mv "$scratch/image.tar" "$folder/tokenward.tar"
echo "$(<"$scratch/id")" >"$folder/digest"
