#!/usr/bin/env bash
# Run a command where Prometheus and promtool are found.
#
#   tests/monitoring/prometheus.sh COMMAND [ARGUMENT...]
#
# With INSTALL_PROMETHEUS=1, as root on Debian, what is missing is installed; its service is not started.
set -euo pipefail

say() { echo "monitoring: $*" >&2; }

missing=()
for name in prometheus promtool; do
  command -v "$name" >/dev/null || missing+=("$name")
done
if [ ${#missing[@]} -gt 0 ]; then
  if [ "${INSTALL_PROMETHEUS:-}" != 1 ]; then
    say "${missing[*]} not found; install it (apt-get install prometheus), or let this script: INSTALL_PROMETHEUS=1"
    exit 1
  fi
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    say "${missing[*]} not found, and only root on Debian can install it"
    exit 1
  fi
  say "installing Debian's prometheus"
  mkdir -p build
  export DEBIAN_FRONTEND=noninteractive
  # Neither in a container nor for a test should Debian start the service.
  { apt-get update && RUNLEVEL=1 apt-get install --yes --no-install-recommends prometheus; } >build/prometheus.log 2>&1 ||
    { say "apt-get failed: $(tail -n 3 build/prometheus.log)"; exit 1; }
fi
"$@"
