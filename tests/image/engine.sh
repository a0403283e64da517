#!/usr/bin/env bash
# Run a command with a container engine that builds with BuildKit, and a base image for the build.
#
#   tests/image/engine.sh COMMAND [ARGUMENT...]
#
# The command finds in its environment DOCKER (the client to call), BASE_IMAGE, RUN_LABEL (what its containers are
# labelled with, so that none outlives it) and, where the base is the stand-in, PIP_CERT. With INSTALL_ENGINE=1, as
# root on Debian, what is missing is made: an engine is installed and started, and stopped at the end; where no
# registry answers, a base image is made from Debian's packages.
set -euo pipefail
cd "$(dirname "$0")/../.."

LOGS=build/engine
STAND_IN=bundleserver-base
DEADLINE_SECONDS=120
DEFAULT_BASE=python:3.11-slim-bookworm

export DOCKER_BUILDKIT=1
export BASE_IMAGE=${BASE_IMAGE:-$DEFAULT_BASE}
export RUN_LABEL=bundleserver.run=$$-$RANDOM
may_install=${INSTALL_ENGINE:-}
daemon=

say() { echo "engine: $*" >&2; }
die() {
  say "$*"
  exit 1
}

# A client without buildx can talk to a daemon and still not build, so each one builds something. A build that meets
# the daemon at its start may never end, nor does SIGTERM end it.
can_build() {
  local image
  image=$(printf 'FROM scratch\nLABEL probe=engine\n' |
    timeout --signal=KILL 30 "$1" build --quiet - 2>>"$LOGS/probe.log") || return 1
  "$1" rmi "$image" >/dev/null
}

find_engine() {
  local client
  for client in ${DOCKER:-docker /usr/bin/docker}; do
    if command -v "$client" >/dev/null && can_build "$client"; then
      export DOCKER=$client
      return 0
    fi
  done
  return 1
}

install_packages() {
  [ "$may_install" = 1 ] || die "$1; install it, or let this script do it: INSTALL_ENGINE=1, as root on Debian"
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    die "$1, and only root on Debian can install it"
  fi
  say "$1; installing ${*:2}"
  export DEBIAN_FRONTEND=noninteractive
  { apt-get update && apt-get install --yes --no-install-recommends "${@:2}"; } >"$LOGS/apt.log" 2>&1 ||
    die "apt-get failed: $(tail -n 3 "$LOGS/apt.log")"
}

start_engine() {
  [ "$may_install" = 1 ] || die "dockerd does not run; start it, or let this script do it with INSTALL_ENGINE=1"
  say "starting dockerd; it says what it does in $LOGS/dockerd.log"
  # Left by a daemon that was killed, they name processes that may be others' by now.
  rm -f /run/docker.pid /run/docker/containerd/containerd.pid
  dockerd >"$LOGS/dockerd.log" 2>&1 </dev/null &
  daemon=$!
}

wait_for_engine() {
  local end=$((SECONDS + DEADLINE_SECONDS))
  until find_engine; do
    [ -z "$daemon" ] || kill -0 "$daemon" 2>/dev/null || die "dockerd has ended: $(tail -n 3 "$LOGS/dockerd.log")"
    [ $SECONDS -lt $end ] || die "no client can build with dockerd after $DEADLINE_SECONDS s; see $LOGS"
    sleep 1
  done
}

clean_up() {
  local left
  left=$("${DOCKER:-false}" ps --all --quiet --filter "label=$RUN_LABEL" 2>/dev/null || true)
  # shellcheck disable=SC2086  # one word each
  [ -z "$left" ] || "$DOCKER" rm --force $left >/dev/null || true
  [ -z "$daemon" ] || { kill "$daemon" 2>/dev/null && wait "$daemon"; } || true
}

has_image() { "$DOCKER" image inspect "$1" >/dev/null 2>&1; }

make_stand_in() {
  command -v debootstrap >/dev/null || install_packages "debootstrap is missing" debootstrap
  say "making $STAND_IN from Debian's packages"
  local root
  root=$(mktemp --directory)
  debootstrap --variant=minbase --include=python3,python3-venv,python3-pip,ca-certificates \
    bookworm "$root" >"$LOGS/debootstrap.log" 2>&1 ||
    die "debootstrap failed: $(tail -n 3 "$LOGS/debootstrap.log")"
  cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
  tar --directory "$root" --exclude './var/cache/apt/archives/*.deb' --exclude './var/lib/apt/lists/*' --create . |
    "$DOCKER" import --message "stand-in for $DEFAULT_BASE" - "$STAND_IN" >/dev/null
  rm --recursive --force --one-file-system "$root"
}

find_base() {
  if has_image "$BASE_IMAGE" || "$DOCKER" pull --quiet "$BASE_IMAGE" >/dev/null 2>"$LOGS/pull.log"; then
    return
  fi
  say "$BASE_IMAGE cannot be pulled: $(tail -n 1 "$LOGS/pull.log")"
  [ "$BASE_IMAGE" = "$DEFAULT_BASE" ] || die "name a BASE_IMAGE that can be pulled"
  [ "$may_install" = 1 ] || die "name another BASE_IMAGE, or have a stand-in made with INSTALL_ENGINE=1"
  say "its stand-in is $STAND_IN"
  has_image "$STAND_IN" || make_stand_in
  # pip trusts what this machine trusts: the stand-in has its certificates.
  export BASE_IMAGE=$STAND_IN PIP_CERT=/etc/ssl/certs/ca-certificates.crt
}

mkdir -p "$LOGS"
trap clean_up EXIT
if ! find_engine; then
  command -v dockerd >/dev/null || install_packages "there is no container engine" docker.io iptables
  # On a machine that has just started, or been given the engine, it may be on its way.
  pgrep -x dockerd >/dev/null || start_engine
  wait_for_engine
fi
find_base
"$@"
