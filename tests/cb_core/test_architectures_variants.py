"""EfficientNet, vision transformer and cross-attention: their options, and weights from elsewhere."""

import pytest
import torch
from torchvision.models import efficientnet_b0
from torchvision.models.vision_transformer import VisionTransformer as SquareTransformer

from cb_core.architectures.backbones import load_backbone_weights
from cb_core.architectures.shared_backbone_vit import (
    PATCH_SIZES,
    VARIANTS,
    Size,
    VisionTransformer,
    resampled_positions,
)
from cb_core.registry import create_model, create_model_for_weights
from cb_runtime.contract import Preprocessing
from cb_runtime.errors import ModelError, UsageError

SMALL = Size(16, 2, 2)


def parameters_of(name, **options):
    with torch.device("meta"):
        return create_model_for_weights(name, options).get_num_total_params()


def test_larger_variants_have_more_parameters():
    efficientnets = [parameters_of("shared_backbone_efficientnet", variant=v) for v in ("b0", "b3", "v2_m")]
    transformers = [parameters_of("shared_backbone_vit", variant=v) for v in VARIANTS]
    assert efficientnets == sorted(set(efficientnets))
    assert transformers == sorted(set(transformers))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("shared_backbone_efficientnet", {"variant": "b9"}, "variant must be one of b0, b1.*got 'b9'"),
        ("shared_backbone_vit", {"variant": "huge"}, "variant must be one of tiny.*got 'huge'"),
        ("shared_backbone_vit", {"patch_size": 32}, "patch_size must be one of 8, 12, 16, 24, got 32"),
        (
            "shared_backbone_vit",
            {"pretrained": True},
            "weights for variant base, large with patch_size 16, not for tiny",
        ),
        ("shared_backbone_vit", {"variant": "base", "patch_size": 8, "pretrained": True}, "not for base with 8"),
        ("cross_attention_fusion", {"width": 90}, "multiple of heads"),
    ],
)
def test_options_that_cannot_be_had_are_refused(name, options, message):
    with pytest.raises(UsageError, match=message):
        create_model(name, **options)


@pytest.mark.parametrize("patch_size", PATCH_SIZES)
def test_patches_cover_a_strip(patch_size):
    height, width, _ = Preprocessing().strip_shape
    assert (height % patch_size, width % patch_size) == (0, 0)
    model = VisionTransformer(SMALL, patch_size, height, width)
    assert model(torch.zeros(2, 3, height, width)).shape == (2, SMALL.width)


def test_efficientnet_takes_torchvisions_weights_from_a_file(tmp_path):
    torch.manual_seed(1)
    source = efficientnet_b0(weights=None).state_dict()
    torch.save(source, tmp_path / "b0.pth")
    model = create_model("shared_backbone_efficientnet", pretrained=str(tmp_path / "b0.pth"), validate=False)
    loaded = model.encoders["image"].state_dict()
    assert loaded
    assert all(torch.equal(value, source[name]) for name, value in loaded.items())


def square_transformer(image_size):
    torch.manual_seed(2)
    model = SquareTransformer(image_size, 16, SMALL.layers, SMALL.heads, SMALL.width, 4 * SMALL.width)
    torch.nn.init.normal_(model.class_token)
    return model.eval()


def test_a_square_strip_gives_the_features_of_torchvisions_transformer():
    square, ours = square_transformer(48), VisionTransformer(SMALL, 16, 48, 48).eval()
    square.heads = torch.nn.Identity()
    ours.load_state_dict(square.state_dict())
    pictures = torch.randn(2, 3, 48, 48)
    with torch.inference_mode():
        torch.testing.assert_close(ours(pictures), square(pictures))


def test_a_transformer_takes_weights_of_square_pictures_and_resamples_their_positions(tmp_path):
    square, ours = square_transformer(64).state_dict(), VisionTransformer(SMALL, 16, 48, 480)
    torch.save(square, tmp_path / "vit.pth")
    load_backbone_weights(ours, str(tmp_path / "vit.pth"), None, head="heads.")
    loaded = ours.state_dict()
    same = [name for name in loaded if name != "encoder.pos_embedding"]
    assert all(torch.equal(loaded[name], square[name]) for name in same)
    wanted = resampled_positions(square["encoder.pos_embedding"], (3, 30))
    assert torch.equal(loaded["encoder.pos_embedding"], wanted)


def test_weights_of_other_patches_are_refused(tmp_path):
    torch.save(square_transformer(64).state_dict(), tmp_path / "vit.pth")
    with pytest.raises(ModelError, match=r"do not fit VisionTransformer(?s:.*)conv_proj"):
        load_backbone_weights(VisionTransformer(SMALL, 24, 48, 480), str(tmp_path / "vit.pth"), None, head="heads.")


def test_resampled_positions_keep_the_class_token_and_the_order_of_rows_and_columns():
    rows, columns = torch.meshgrid(torch.arange(14.0), torch.arange(14.0), indexing="ij")
    grid = torch.stack((rows, columns), dim=-1).reshape(1, 196, 2)
    positions = torch.cat((torch.full((1, 1, 2), -5.0), grid), dim=1)
    found = resampled_positions(positions, (3, 30))
    assert found.shape == (1, 91, 2)
    assert found[0, 0].tolist() == [-5.0, -5.0]
    fitted = found[0, 1:].reshape(3, 30, 2)
    assert (fitted[..., 0].diff(dim=0) > 1).all()
    assert (fitted[..., 1].diff(dim=1) > 0).all()
    torch.testing.assert_close(fitted[..., 1].mean(), torch.tensor(6.5))


def test_positions_of_no_square_are_refused():
    with pytest.raises(ModelError, match="positions for 90 patches, which are not a square"):
        resampled_positions(torch.zeros(1, 91, 8), (3, 5))


def test_cross_attention_looks_at_what_stands_beside_too():
    torch.manual_seed(0)
    model = create_model("cross_attention_fusion").eval()
    tokens = torch.randn(1, 120, 96, requires_grad=True)
    layer = model.classifier.layers[0]
    layer(torch.randn(1, 120, 96), tokens)[0, 60].sum().backward()
    assert (tokens.grad[0].abs().sum(dim=1) > 0).all()


def test_the_encoder_of_the_model_in_the_box_costs_at_most_150_mmac_a_frame():
    from torch.utils.flop_counter import FlopCounterMode

    encoder = create_model("aligned_comparison", validate=False).eval().encoders["frame"]
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        encoder(torch.zeros(1, 3, 48, 480))
    assert 50e6 < counter.get_total_flops() / 2 <= 150e6
