# HippoTune as a container: a BIDS App that needs no network, no home, no root, and writes only to OUTPUT_DIR and --work-dir.
#
#   docker build --tag hippotune:0.1.0 .
#   docker build --build-arg TORCH_INDEX=<the address of PyTorch's CPU wheels> --tag hippotune:0.1.0-cpu .
#
# BASE_IMAGE: any Debian or Ubuntu with Python 3.11, 3.12 or 3.13 and its venv module.
# TORCH_INDEX: where pip finds torch, e.g. builds without CUDA (2 GB instead of 7); empty: what pip finds by itself, with CUDA.
ARG BASE_IMAGE=python:3.12-slim-bookworm

# hadolint ignore=DL3006
FROM ${BASE_IMAGE} AS build
ARG TORCH_INDEX=""
WORKDIR /opt/hippotune
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY bidsapp bidsapp
RUN python3 -m venv venv \
 && if [ -n "${TORCH_INDEX}" ]; then \
      venv/bin/pip install --no-cache-dir --constraint constraints.txt --index-url "${TORCH_INDEX}" torch torchvision; \
    fi \
 && venv/bin/pip install --no-cache-dir --constraint constraints.txt .

# hadolint ignore=DL3006
FROM ${BASE_IMAGE}
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG CREATED=unknown
LABEL org.opencontainers.image.title="HippoTune" \
      org.opencontainers.image.description="Segments hippocampi and retrains the U-Nets that do it; a BIDS App with nnU-Net v2" \
      org.opencontainers.image.licenses="Apache-2.0 AND CC-BY-SA-4.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"
COPY --from=build /opt/hippotune/venv /opt/hippotune/venv
COPY run.py boutiques.json /opt/hippotune/
ENV PATH=/opt/hippotune/venv/bin:${PATH} \
    PYTHONNOUSERSITE=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    MPLBACKEND=Agg
USER 10001:10001
ENTRYPOINT ["/opt/hippotune/run.py"]
