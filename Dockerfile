# bundleserver and its libraries on a plain Python image, without what serving never touches.
#
#   docker build -t bundleserver .                              everything
#   docker build -t bundleserver-sklearn --build-arg EXTRAS=sklearn .
#   docker build -t bundleserver-gpu --build-arg TORCH=cuda .
#   docker build -t bundleserver-lowest --build-arg CONSTRAINTS=constraints-lowest.txt .
#
# BuildKit builds it. 'make image' builds the first two, with torch's CPU wheel in build/wheels, 'make image-gpu' the
# third, and
# SET=FILE builds each with the versions of another file of constraints.

ARG BASE_IMAGE=python:3.11-slim-bookworm

# All that the libraries depend on: while these files stay, a change of code installs nothing anew.
FROM scratch AS sources
# The set of versions: a file of the build context.
ARG CONSTRAINTS=constraints.txt
COPY pyproject.toml buil[d]/wheel[s]/ /
COPY ${CONSTRAINTS} /constraints.txt

FROM ${BASE_IMAGE} AS build
# A proxy's or a company's certificates and package index; pip reads both from the environment.
ARG PIP_CERT
ARG PIP_INDEX_URL
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
RUN --mount=type=bind,from=sources,target=/sources \
    --mount=type=cache,target=/root/.cache/pip \
    python3 -m venv /opt/build \
 && /opt/build/bin/pip install --quiet --constraint /sources/constraints.txt hatchling

FROM build AS libraries
# 'full', or 'sklearn' for an image with scikit-learn, skops and MLflow's client alone.
ARG EXTRAS=full
# 'cpu' takes only a torch marked '+cpu'; the package index has another one, which brings gigabytes of CUDA: 'cuda'.
ARG TORCH=cpu
# Where torch's CPU wheel is: build/wheels of the build context, or the page of PyTorch's own CPU index.
ARG TORCH_WHEELS=/sources
RUN --mount=type=bind,from=sources,target=/sources \
    --mount=type=cache,target=/root/.cache/pip \
    case "$EXTRAS" in \
      full) extras=server,sklearn,fast,skops,notebook,mlflow,batch,tracing,signing,torch,statsmodels,prophet,xgboost,lightgbm,catboost,onnx ;; \
      sklearn) extras=server,sklearn,fast,skops,notebook,mlflow,batch,tracing,signing ;; \
      *) echo >&2 "EXTRAS is '$EXTRAS'; expected full or sklearn"; exit 1 ;; \
    esac \
 && case "$TORCH" in \
      cpu) mark=+cpu wheels="--find-links $TORCH_WHEELS" ;; \
      cuda) mark= wheels= ;; \
      *) echo >&2 "TORCH is '$TORCH'; expected cpu or cuda"; exit 1 ;; \
    esac \
 && python3 -c "import tomllib; \
project = tomllib.load(open('/sources/pyproject.toml', 'rb'))['project']; \
extras = [project['optional-dependencies'][name] for name in '$extras'.split(',')]; \
needed = sum(extras, project['dependencies']); \
print(*(line for line in needed if not line.startswith('bundleserver[')), sep='\n')" > /opt/build/requirements.txt \
 && sed "s/^torch==[0-9.]*$/&$mark/" /sources/constraints.txt > /opt/build/constraints.txt \
 && python3 -m venv --without-pip /opt/venv \
 && /opt/build/bin/pip --python /opt/venv/bin/python3 install --quiet --no-compile $wheels \
      --constraint /opt/build/constraints.txt --requirement /opt/build/requirements.txt
# Tests, headers, link-time files, sample data, compilers (grpcio-tools, stanc, protoc, and setuptools, which
# only drives one), the asynchronous Kubernetes client, which kserve never imports, what draws CatBoost's
# training (plotly, graphviz), onnxruntime's converters, and Arrow's RPC. torch looks for torch_shm_manager
# when it is imported, and prophet for CmdStan's makefile.
RUN cd /opt/venv/lib/python3*/site-packages \
 && /opt/build/bin/pip --python /opt/venv/bin/python3 uninstall --quiet --yes grpcio-tools setuptools plotly graphviz \
 && find . -type d \( -name test -o -name tests \) -prune -exec rm -r {} + \
 && find . -type f \( -name '*.a' -o -name '*.o' -o -name '*.h' -o -name '*.hpp' -o -name '*.pyx' -o -name '*.pxd' \) \
      -delete \
 && find . -path './torch/bin/*' ! -name torch_shm_manager -delete \
 && find . -path './statsmodels/datasets/*.csv' -delete \
 && rm -rf kubernetes/aio torch/include torch/share \
      onnxruntime/transformers onnxruntime/quantization onnxruntime/tools onnxruntime/datasets xgboost/testing \
      pyarrow/include pyarrow/src pyarrow/*flight* pyarrow/libarrow_python*.so.*.*.* \
      prophet/stan_model/prophet prophet/stan_model/cmdstan-*/bin prophet/stan_model/cmdstan-*/stan
# The root file system may be read-only, so nothing is compiled later, and no file's time is compared. One file of
# torch's is in a newer Python's syntax.
RUN /opt/venv/bin/python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash -x py312_intrinsics /opt/venv/lib \
 && echo /opt/bundleserver > "$(echo /opt/venv/lib/python3*/site-packages)/bundleserver.pth"

FROM libraries AS package
COPY pyproject.toml README.md LICENSE /src/
COPY runtime /src/runtime
RUN /opt/build/bin/pip wheel --quiet --no-deps --no-build-isolation --no-index --wheel-dir /opt/build/wheels /src \
 && /opt/build/bin/pip --python /opt/venv/bin/python3 install --quiet --no-deps --no-index --no-compile \
      --target /opt/bundleserver /opt/build/wheels/*.whl \
 && /opt/venv/bin/python3 -m compileall -q --invalidation-mode unchecked-hash /opt/bundleserver

FROM ${BASE_IMAGE}
# An arbitrary user (OpenShift gives one, of group 0) has no home and no name; /tmp is all that it writes. In an image
# built on this one 'pip install' adds to the server's libraries, though pip itself is the base's.
ENV PATH=/opt/venv/bin:/opt/bundleserver/bin:$PATH \
    HOME=/tmp \
    USER=bundleserver \
    XDG_CACHE_HOME=/tmp/.cache \
    MPLCONFIGDIR=/tmp/.cache/matplotlib \
    NUMBA_CACHE_DIR=/tmp/.cache/numba \
    TORCHINDUCTOR_CACHE_DIR=/tmp/.cache/torch \
    MPLBACKEND=Agg \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    PYTHONSAFEPATH=1 \
    PIP_PYTHON=/opt/venv/bin/python3
# The official Python images leave the standard library uncompiled. A new volume of docker's, mounted at /mnt/models,
# gets that directory's owner and mode, so that 'publish' can write it.
RUN python3 -m compileall -q -j 0 -x '/(tests?|idle_test|site-packages)/' \
      "$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')" \
 && install -d -o 1001 -g 0 -m 0775 /mnt/models
COPY --from=libraries /opt/venv /opt/venv
COPY --from=package /opt/bundleserver /opt/bundleserver
# LightGBM takes OpenMP from the system, where the slim base has none: scikit-learn's own copy is it, which the loader
# finds in /usr/lib on every architecture. One file is one pool of threads, whichever of both is loaded first.
RUN libgomp=$(echo /opt/venv/lib/python3*/site-packages/scikit_learn.libs/libgomp-*.so.1*) \
 && test -f "$libgomp" \
 && ln -s "$libgomp" /usr/lib/libgomp.so.1

USER 1001
WORKDIR /tmp
EXPOSE 8080 8081
# With another --http_port, or with TLS, give docker run its own --health-cmd. Kubernetes ignores this one.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["python3", "-S", "-c", \
  "import http.client; server = http.client.HTTPConnection('127.0.0.1', 8080, timeout=4); server.request('GET', '/v2/health/live'); raise SystemExit(server.getresponse().status != 200)"]
# Python is process 1 itself, so SIGTERM reaches it. Arguments are flags of 'serve', or another command.
ENTRYPOINT ["python3", "-m", "bundleserver"]

ARG EXTRAS=full
ARG CONSTRAINTS=constraints.txt
ARG VERSION
ARG REVISION
LABEL org.opencontainers.image.title="bundleserver" \
      org.opencontainers.image.description="KServe predictor runtime that serves a directory of model files as one versioned model ($EXTRAS)" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      bundleserver.constraints="$CONSTRAINTS"
