"""What building and running TensorRT engines share: the two flavours, the sidecar, TensorRT's messages.

Used by the backend `cb_runtime.backends.tensorrt` and by the export target. Nothing here imports TensorRT or CUDA
before it is used.
"""
