#!/usr/bin/env bash
# Run a command where Debian's Chromium and its driver are installed.
#
#   tests/browser/browser.sh COMMAND [ARGUMENT...]
#
# With INSTALL_BROWSER=1, as root on Debian, what is missing is installed.
set -euo pipefail
cd "$(dirname "$0")/../.."

LOG=build/browser/apt.log
PACKAGES=(chromium chromium-driver fonts-dejavu-core)

say() { echo "browser: $*" >&2; }
die() {
  say "$*"
  exit 1
}

install_packages() {
  [ "${INSTALL_BROWSER:-}" = 1 ] ||
    die "$1 is missing; install it: apt-get install --no-install-recommends ${PACKAGES[*]}, or let this script do it: INSTALL_BROWSER=1, as root on Debian"
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    die "$1 is missing, and only root on Debian can install it"
  fi
  say "$1 is missing; installing ${PACKAGES[*]}"
  mkdir -p "$(dirname "$LOG")"
  export DEBIAN_FRONTEND=noninteractive
  { apt-get update && apt-get install --yes --no-install-recommends "${PACKAGES[@]}"; } >"$LOG" 2>&1 ||
    die "apt-get failed: $(tail -n 3 "$LOG")"
}

for program in chromium chromedriver; do
  command -v "$program" >/dev/null || install_packages "$program"
done
"$@"
