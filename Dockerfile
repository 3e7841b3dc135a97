# mindmusicgen on a CPU. In the repository:
#   docker build -t mindmusicgen .
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/music" mindmusicgen generate "calm piano" --output out.wav
FROM python:3.11-slim-bookworm

# The C kernels are compiled at installation; MindSpore needs libgomp, which comes with gcc.
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /source
COPY setup.py pyproject.toml README.md ./
COPY mindmusicgen mindmusicgen
RUN pip install --no-cache-dir .

# Any user may run it: what is kept between runs (downloads, compiled graphs) lies in /cache, the music in /music.
RUN mkdir -m 1777 /cache /music
ENV HOME=/cache HF_HOME=/cache/huggingface MINDMUSICGEN_CACHE=/cache/mindmusicgen
WORKDIR /music
ENTRYPOINT ["mindmusicgen"]
CMD ["--help"]
