"""What training runs: an architecture on batches in which each picture is there once."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from cb_core.architectures.late_fusion import LateFusion
from cb_core.deployment import DeploymentModel
from cb_core.training.auxiliary import AuxiliaryTask
from cb_runtime.contract import IMAGE_INPUTS, Preprocessing

BATCH_INPUTS = (
    "frames",
    "frame1_index",
    "frame2_index",
    "pictures",
    "picture_index",
    "spatial_features",
    "font_embedding",
)
"""What `TrainingModel` takes of a batch of `PairDataset.batch`."""


class TrainingModel(nn.Module):
    """Compute the logits of pairs that share pictures: the same as deployment gives, with less work.

    Late fusion encodes each picture once. Any other architecture is given every pair's three pictures.
    """

    def __init__(
        self, architecture: nn.Module, preprocessing: Preprocessing, auxiliary: AuxiliaryTask | None = None
    ) -> None:
        super().__init__()
        self.deployed = DeploymentModel(architecture, preprocessing)
        self.auxiliary = auxiliary

    def forward(
        self,
        frames: Tensor,
        frame1_index: Tensor,
        frame2_index: Tensor,
        pictures: Tensor,
        picture_index: Tensor,
        spatial_features: Tensor,
        font_embedding: Tensor,
    ) -> tuple[Tensor, Tensor | None]:
        """Return logits float32 `(batch, 5)` and, while an auxiliary task is trained, its logits."""
        places = {"ocr_viz": picture_index, "frame1": frame1_index, "frame2": frame2_index}
        vectors = (spatial_features, font_embedding)
        architecture = self.deployed.architecture
        if isinstance(architecture, LateFusion):
            features = architecture.encode_once(self.deployed.normalised(frames), self.deployed.normalised(pictures))
            logits: Tensor = architecture.classifier(
                *(rows(features[name], places[name]) for name in IMAGE_INPUTS), *vectors
            )
            trained = self.auxiliary if self.training else None
            return logits.float(), trained(features).float() if trained is not None else None
        given = {"ocr_viz": pictures, "frame1": frames, "frame2": frames}
        whole: Tensor = self.deployed(*(given[name].index_select(0, places[name]) for name in IMAGE_INPUTS), *vectors)
        return whole, None


def rows(features: Tensor, places: Tensor) -> Tensor:
    """Return features `(frames, ...)` at places `(batch,)` as `(batch, ...)`, maps with channels last.

    By `embedding`, whose gradient adds up whole rows: on a CPU that of `index_select` takes ten times as long.
    """
    last = features.permute(0, 2, 3, 1) if features.ndim == 4 else features
    found = F.embedding(places, last.flatten(1)).reshape(len(places), *last.shape[1:])
    return found.permute(0, 3, 1, 2) if features.ndim == 4 else found
