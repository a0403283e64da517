#!/usr/bin/env bash
# Build the image of the services that tests start in the cluster; called by run.sh with an engine.
set -euo pipefail
cd "$(dirname "$0")/../../.."

version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' runtime/bundleserver/__init__.py)
began=$SECONDS
"$DOCKER" build --quiet --network=host --tag bundleserver-test-services:1 --build-arg BASE="bundleserver-sklearn:$version" \
  ${PIP_CERT:+--build-arg PIP_CERT="$PIP_CERT"} ${PIP_INDEX_URL:+--build-arg PIP_INDEX_URL="$PIP_INDEX_URL"} \
  tests/cluster/services
echo "build: bundleserver-test-services:1 took $((SECONDS - began)) s"
