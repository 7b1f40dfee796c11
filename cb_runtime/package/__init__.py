"""Packages: a model in one `.cbx` file, with all that is needed to run it, to check it and to know where it is from.

A package is a stored zip:

```text
manifest.json            contract, artifacts, SHA-256 and size of every other member
manifest.sig             optional: an ed25519 signature of the manifest
README.md                the model card
golden.npz               real pairs with PyTorch's logits
onnx-fp32/model.onnx     an artifact in a folder of its own, with what stands beside it
onnx-fp32/parity.json    how the gate judged it
engine-fp16-8.9-tensorrt-11.4.0/model.engine, model.engine.json, parity.json
```

Any unzip program opens it. `open_package` trusts nothing: every byte of the file is either told by the manifest or
fixed by the format, so a changed one is refused. Packages of one artifact are written by `cb export --package`, those
of several by `cb package create`; which one is opened says `choice.py`.
"""

from cb_runtime.package.archive import Package, open_package, write_archive
from cb_runtime.package.manifest import SUFFIX, Artifact, Manifest, Member

__all__ = ["SUFFIX", "Artifact", "Manifest", "Member", "Package", "open_package", "write_archive"]
