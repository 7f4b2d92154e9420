# advbench in a container; one image serves CPUs and NVIDIA GPUs.
#   docker build -t advbench .
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/work" advbench quickstart
#   docker run --rm --gpus all --shm-size 8g --user "$(id -u):$(id -g)" -v "$PWD:/work" \
#     advbench generate --attack all
# For the CPU alone, gigabytes smaller, give the address of PyTorch's CPU wheels:
#   docker build -t advbench-cpu --build-arg PIP_EXTRA_INDEX_URL=ADDRESS --build-arg TORCH=+cpu .
FROM python:3.11-slim

# A local version such as +cpu picks the wheels of that index.
ARG PIP_EXTRA_INDEX_URL
ARG TORCH=

WORKDIR /opt/advbench
COPY . .
RUN sed -E "s/^(torch|torchvision)==([^+]*)$/\1==\2${TORCH}/" constraints.txt > /tmp/constraints.txt \
    && pip install --no-cache-dir -c /tmp/constraints.txt .

# Any user may write there. A mounted folder belongs to who owns it outside, hence --user above.
ENV ADVBENCH_CACHE=/cache HOME=/work MPLCONFIGDIR=/tmp/matplotlib
RUN mkdir -p /work /cache && chmod 1777 /work /cache
WORKDIR /work
USER nobody

ENTRYPOINT ["advbench"]
CMD ["--help"]
