#!/usr/bin/env bash
# Build images; called by engine.sh, which says with which client and on which base.
#
#   tests/image/build.sh [full] [sklearn] [gpu]
#
# SET names a file of constraints in the place of constraints.txt; constraints-NAME.txt, and any other NAME.txt, give
# images that are called -NAME. torch's CPU wheel is fetched into build/wheels, unless TORCH_WHEELS names the page of
# an index that has it.
set -euo pipefail
cd "$(dirname "$0")/../.."

WHEELS=build/wheels
version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' runtime/bundleserver/__init__.py)
set=${SET:-constraints.txt}
[ -f "$set" ] || {
  echo >&2 "build: SET is '$set', which is no file; expected one of constraints, such as constraints-lowest.txt"
  exit 1
}
mark=$(basename "$set" .txt)
mark=${mark#constraints}
mark=${mark:+-${mark#-}}
constraints=$set
case $set in
  constraints*.txt) ;;
  *) # The engine gets only what .dockerignore names.
    mkdir -p build/sets
    constraints=build/sets/$(basename "$set")
    cp "$set" "$constraints"
    ;;
esac
torch=torch==$(sed -n 's/^torch==//p' "$set")+cpu

fetch_torch() {
  [ -z "${TORCH_WHEELS:-}" ] || return 0
  ! compgen -G "$WHEELS/${torch/==/-}-*.whl" >/dev/null || return 0
  rm -f "$WHEELS"/torch-*
  "${PYTHON:-python3}" -m pip download --quiet --no-deps --only-binary :all: --python-version 3.11 \
    --dest "$WHEELS" "$torch" || {
    echo >&2 "build: $torch cannot be downloaded; set TORCH_WHEELS to the page of torch in PyTorch's own CPU index"
    exit 1
  }
}

build() {
  local name=$1 began=$SECONDS
  name=$name$mark
  "$DOCKER" build --network=host --tag "$name:$version" "${@:2}" --build-arg CONSTRAINTS="$constraints" \
    --build-arg BASE_IMAGE="$BASE_IMAGE" --build-arg VERSION="$version" \
    --build-arg REVISION="$(git rev-parse HEAD 2>/dev/null || true)" \
    ${PIP_CERT:+--build-arg PIP_CERT="$PIP_CERT"} ${PIP_INDEX_URL:+--build-arg PIP_INDEX_URL="$PIP_INDEX_URL"} \
    ${TORCH_WHEELS:+--build-arg TORCH_WHEELS="$TORCH_WHEELS"} .
  echo "build: $name:$version took $((SECONDS - began)) s"
}

for kind in "${@:-full}"; do
  case $kind in
    full) fetch_torch && build bundleserver ;;
    sklearn) build bundleserver-sklearn --build-arg EXTRAS=sklearn ;;
    gpu) build bundleserver-gpu --build-arg TORCH=cuda ;;
    *) echo >&2 "build: '$kind' is no image; expected full, sklearn or gpu" && exit 1 ;;
  esac
done
"$DOCKER" images --filter reference='bundleserver*'
