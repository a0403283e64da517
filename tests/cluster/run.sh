#!/usr/bin/env bash
# Run the tests against a Kubernetes with KServe: the one that KUBECONFIG names, or one that is started for them.
#
#   PYTHON=.venv/bin/python tests/cluster/run.sh [OPTION OF PYTEST...]
#
# Files of tests run side by side (CLUSTER_JOBS, 3), except the page's, whose commands change the cluster's runtime.
# Without KUBECONFIG the scripts 'up' and 'down' of CLUSTER_SCRIPTS, by default ../shared/cluster, start one on this
# machine and end it; the slim image, with FULL=1 the full one too, and those of the registry and the object store are
# built and loaded into it. Where there are no such scripts nothing is run, and that is said.
set -euo pipefail
cd "$(dirname "$0")/../.."

scripts=${CLUSTER_SCRIPTS:-../shared/cluster}
export CLUSTER_DIR=${CLUSTER_DIR:-/var/tmp/kserve-cluster}
version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' runtime/bundleserver/__init__.py)

say() { echo "cluster-test: $*" >&2; }

run_tests() {
  local page=tests/cluster/test_page.py
  "$PYTHON" -m pytest "$page" --durations=0 "$@"
  "$PYTHON" -m pytest tests/cluster --ignore "$page" --numprocesses "${CLUSTER_JOBS:-3}" --dist loadfile \
    --maxfail=5 --durations=20 "$@"
}

if [ -n "${KUBECONFIG:-}" ]; then
  run_tests "$@"
  exit
fi
if [ ! -x "$scripts/up" ]; then
  say "SKIPPED, nothing was tested: KUBECONFIG names no cluster, and $scripts/up is not there to start one"
  exit 0
fi
if [ -z "${RUN_LABEL:-}" ]; then
  exec tests/image/engine.sh "$0" "$@"
fi

end() { "$scripts/down"; }
trap end EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

tests/image/build.sh sklearn ${FULL:+full}
tests/cluster/services/build.sh
images=("bundleserver-sklearn:$version" bundleserver-test-services:1)
[ -z "${FULL:-}" ] || images+=("bundleserver:$version")
"$scripts/up" "${images[@]}"

export KUBECONFIG=$CLUSTER_DIR/admin.conf PATH=$CLUSTER_DIR/bin:$PATH
export CLUSTER_SLIM=docker.io/library/bundleserver-sklearn:$version
export CLUSTER_SERVICES=docker.io/library/bundleserver-test-services:1
[ -z "${FULL:-}" ] || export CLUSTER_FULL=docker.io/library/bundleserver:$version
export CLUSTER_VOLUMES=$CLUSTER_DIR/volumes
run_tests "$@"
