"""Triton: a model repository that NVIDIA's inference server opens, written from a proven artifact.

```text
models/                  the repository, which may hold other models
  captions/              one model, written in one step
    config.pbtxt         tensors, largest batch, dynamic batching, warm-up
    labels.txt           the labels, in order
    contract.json        the artifact's metadata, as in the artifact itself
    1/model.onnx         an ONNX file, or
    1/model_8.9.plan     an engine for each compute capability, with its sidecar
```
"""

from cb_export.triton.export import check_place, export_triton
from cb_export.triton.repository import TritonModel, write_model

__all__ = ["TritonModel", "check_place", "export_triton", "write_model"]
