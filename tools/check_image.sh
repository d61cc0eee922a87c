#!/usr/bin/env bash
# Build the container image for real and run it as clusters do: another user id, no home, no network, a read-only root.
#
#   make image-check                                             # as root on Debian or Ubuntu; about 30 GB of disk
#   BASE_IMAGE=python:3.12-slim-bookworm make image-check        # on top of a base that is pulled
#   BUILD_OPTIONS="--build-arg TORCH_INDEX=..." make image-check # more for `buildah build`
#
# Needs buildah and bubblewrap, and mmdebstrap where no BASE_IMAGE is named. hadolint looks at the Dockerfile if it is there.
set -euo pipefail
cd "$(dirname "$0")/.."

IMAGE=${IMAGE:-localhost/hippotune:check}
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
read -ra MORE <<<"${BUILD_OPTIONS:-}"
buildah() { command buildah --storage-driver vfs "$@"; }

for tool in buildah bwrap; do
  command -v "$tool" >/dev/null || { echo "image-check needs $tool: apt-get install buildah bubblewrap mmdebstrap"; exit 1; }
done
if command -v hadolint >/dev/null; then
  hadolint Dockerfile
  echo "hadolint: nothing to say"
fi

pull=--pull
if [ -z "${BASE_IMAGE:-}" ]; then
  pull=--pull-never
  BASE_IMAGE=localhost/hippotune-base:bookworm
  if ! buildah inspect --type image "$BASE_IMAGE" >/dev/null 2>&1; then
    mmdebstrap --quiet --variant=minbase --include=python3,python3-venv,ca-certificates bookworm "$WORK/base.tar"
    printf 'FROM scratch\nADD base.tar /\n' >"$WORK/Dockerfile"
    buildah bud --isolation chroot --tag "$BASE_IMAGE" "$WORK"
  fi
fi

buildah bud --isolation chroot "$pull" --build-arg BASE_IMAGE="$BASE_IMAGE" \
  --build-arg REVISION="$(git rev-parse HEAD)" --build-arg CREATED="$(date -u +%Y-%m-%dT%H:%M:%SZ)" \
  "${MORE[@]}" --tag "$IMAGE" .

container=$(buildah from --pull-never "$IMAGE")
root=$(buildah mount "$container")
trap 'buildah rm "$container" >/dev/null; rm -rf "$WORK"' EXIT
mkdir "$WORK/out"
run() {
  bwrap --ro-bind "$root" / --dev /dev --proc /proc --tmpfs /tmp --ro-bind "$PWD/demo/data/colin27" /data \
    --bind "$WORK/out" /out --unshare-user --uid 12345 --gid 12345 --unshare-net --clearenv \
    --setenv HOME /nonexistent --setenv PATH /opt/hippotune/venv/bin:/usr/bin:/bin \
    /opt/hippotune/run.py "$@"
}
mkdir -p "$root/data" "$root/out" # where a container engine would make them
run --version
run /data /out participant --model none --participant-label colin27 --no-bias-correction --nprocs 1
test -f "$WORK/out/sub-colin27/anat/sub-colin27_hemi-L_space-corobl_desc-preproc_T1w.nii.gz"
buildah inspect --type image --format 'user {{.OCIv1.Config.User}}, entry point {{.OCIv1.Config.Entrypoint}}{{println}}' "$IMAGE"
echo "the image works: $IMAGE"
