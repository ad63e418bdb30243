# simsearch for `index` and `serve`, without TensorFlow:
#
#     docker build -t simsearch .
#     docker run --rm -v "$PWD:/data" simsearch index photos
#     docker run --rm -v "$PWD:/data" -p 8000:8000 simsearch serve --host 0.0.0.0
FROM python:3.13-slim AS build
WORKDIR /source
COPY requirements-slim.txt ./
RUN python -m venv /venv \
    && /venv/bin/pip install --no-cache-dir -r requirements-slim.txt \
        'fastapi>=0.120' 'httptools>=0.7' 'prometheus-client>=0.22' 'python-multipart>=0.0.20' 'segno>=1.6' 'uvicorn>=0.38' 'uvloop>=0.22' \
        'pillow-heif>=1.1' 'tokenizers>=0.21'
COPY . .
RUN /venv/bin/pip install --no-cache-dir --no-deps . && /venv/bin/pip uninstall -y h5py hf-xet pip
# What neither `index` nor `serve` loads: tests, sources of compiled modules, plugins for other processors, readers of
# other formats.
RUN find /venv -depth \( -type d \( -name tests -o -name __pycache__ \) \
        -o -type f \( -name "*.c" -o -name "*.h" -o -name "*.pyx" \) \) -exec rm -rf {} + \
    && cd /venv/lib/python3.13/site-packages/openvino && rm -rf include libs/cache.json \
        libs/libopenvino_intel_gpu_plugin.so libs/libopenvino_intel_npu_plugin.so \
        libs/libopenvino_tensorflow_* libs/libopenvino_pytorch_* libs/libopenvino_paddle_* libs/libopenvino_gguf_*

FROM python:3.13-slim
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH SIMSEARCH_CACHE=/tmp/simsearch
WORKDIR /data
EXPOSE 8000
ENTRYPOINT ["simsearch"]
