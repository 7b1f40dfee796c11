"""Late fusion: each picture is encoded alone, then a classifier looks at the three results.

Because a frame's features do not depend on the other frame, inference can compute them once and use them in every pair.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from cb_core.architectures.heads import count_params
from cb_runtime.contract import IMAGE_INPUTS


class LateFusion(nn.Module):
    """Encoders and a classifier, of which `forward` is composed.

    Args:
        encoders: Encoder modules by name; each maps pictures `(batch, 3, 48, 480)` to features of any shape.
        roles: Which encoder serves which picture input: `{"ocr_viz": ..., "frame1": ..., "frame2": ...}`.
        classifier: Maps the three features and the two vectors to logits `(batch, 5)`.
    """

    def __init__(self, encoders: Mapping[str, nn.Module], roles: Mapping[str, str], classifier: nn.Module) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict(dict(encoders))
        self.roles = {name: roles[name] for name in IMAGE_INPUTS}
        self.classifier = classifier

    def forward(
        self, ocr_viz: Tensor, frame1: Tensor, frame2: Tensor, spatial_features: Tensor, font_embedding: Tensor
    ) -> Tensor:
        """Return logits `(batch, 5)`."""
        features = self.encode({"ocr_viz": ocr_viz, "frame1": frame1, "frame2": frame2})
        logits: Tensor = self.classifier(*(features[name] for name in IMAGE_INPUTS), spatial_features, font_embedding)
        return logits

    def encode(self, pictures: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the features of each picture.

        Pictures that share an encoder pass it together, so that BatchNorm sees in training the mixture of pictures
        whose running statistics it uses afterwards.
        """
        features: dict[str, Tensor] = {}
        for encoder_name, encoder in self.encoders.items():
            served = [name for name in pictures if self.roles[name] == encoder_name]
            if served:
                together = encoder(torch.cat([pictures[name] for name in served]))
                # Not chunk(): torch.export would fix the batch axis.
                apart = together.unflatten(0, (len(served), -1)).unbind(0)
                features.update(zip(served, apart, strict=True))
        return features

    def encode_once(self, frames: Tensor, pictures: Tensor) -> dict[str, Tensor]:
        """Return the features of pictures that several pairs share, for `frame1`, `frame2` and `ocr_viz`.

        Args:
            frames: Strips `(frames, 3, 48, 480)`, each once.
            pictures: `ocr_viz` `(pictures, 3, 48, 480)`, each once.

        Returns:
            Features of all frames under `frame1` and `frame2`, of all pictures under `ocr_viz`.
        """
        given = {"ocr_viz": pictures, "frame1": frames, "frame2": frames}
        features: dict[str, Tensor] = {}
        for encoder_name, encoder in self.encoders.items():
            served = [name for name in IMAGE_INPUTS if self.roles[name] == encoder_name]
            # Each tensor once, though two roles may be given the same one.
            different = {id(given[name]): given[name] for name in served}
            together = encoder(torch.cat(list(different.values())))
            apart = together.split([len(images) for images in different.values()])
            found = dict(zip(different, apart, strict=True))
            features |= {name: found[id(given[name])] for name in served}
        return features

    def get_num_trainable_params(self) -> int:
        """Return the number of parameters that training changes."""
        return count_params(self, trainable_only=True)

    def get_num_total_params(self) -> int:
        """Return the number of all parameters."""
        return count_params(self, trainable_only=False)
