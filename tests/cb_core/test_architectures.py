"""The conformance suite of architectures: it runs over every registered one."""

import pytest
import torch
from torch import nn

from cb_core.architectures.backbones import load_backbone_weights, resnet50_backbone
from cb_core.architectures.channel_fusion_lora_resnet50 import colour_mean_fusion, pointwise_convolutions
from cb_core.architectures.late_fusion import LateFusion
from cb_core.deployment import DeploymentModel
from cb_core.registry import create_model, example_inputs, get_model_info, list_architectures, validate_model
from cb_runtime.contract import IMAGE_INPUTS, INPUT_NAMES, Preprocessing
from cb_runtime.errors import ModelError, UsageError

ARCHITECTURES = list_architectures()
RESNET50 = [name for name in ARCHITECTURES if name.endswith("resnet50")]


@pytest.fixture(scope="module", params=ARCHITECTURES)
def model(request):
    torch.manual_seed(0)
    created = create_model(request.param, validate=False)
    settle_statistics(created)
    return created


def settle_statistics(model):
    """Give BatchNorm statistics of something seen: with those of a new model, a deep network's answer fades to 0."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        model.train()(**example_inputs(4))
    model.eval()


def test_it_obeys_the_contract(model):
    validate_model(model)


def test_every_input_changes_the_answer(model):
    inputs = example_inputs(2)
    with torch.inference_mode():
        before = model(**inputs)
        for name in INPUT_NAMES:
            changed = model(**{**inputs, name: torch.randn_like(inputs[name])})
            assert not torch.allclose(before, changed, atol=1e-7), name


def test_a_sample_does_not_depend_on_its_batch(model):
    inputs = example_inputs(3)
    with torch.inference_mode():
        together = model(**inputs)
        alone = model(**{name: tensor[1:2] for name, tensor in inputs.items()})
    torch.testing.assert_close(together[1:2], alone, atol=1e-4, rtol=1e-4)


def test_a_training_step_changes_trainable_weights_only(model):
    copy = create_model_like(model)
    frozen = {name: p.clone() for name, p in copy.named_parameters() if not p.requires_grad}
    copy.train()(**example_inputs(2)).square().sum().backward()
    with torch.no_grad():
        for parameter in copy.parameters():
            if parameter.grad is not None:
                parameter -= 0.1 * parameter.grad
    assert all(p.grad is not None for p in copy.parameters() if p.requires_grad)
    assert all(torch.equal(p, frozen[name]) for name, p in copy.named_parameters() if name in frozen)


def create_model_like(model):
    import copy

    return copy.deepcopy(model)


def test_its_deployment_takes_uint8_pictures(model):
    shape = (2, *Preprocessing().strip_shape)
    pictures = [torch.randint(0, 256, shape, dtype=torch.uint8) for _ in IMAGE_INPUTS]
    vectors = [torch.zeros(2, 6), torch.zeros(2, 512)]
    with torch.inference_mode():
        assert DeploymentModel(model)(*pictures, *vectors).shape == (2, 5)


def test_late_fusion_is_its_encoders_and_its_classifier(model):
    if not isinstance(model, LateFusion):
        return
    inputs = example_inputs(2)
    with torch.inference_mode():
        features = [model.encoders[model.roles[name]](inputs[name]) for name in IMAGE_INPUTS]
        staged = model.classifier(*features, inputs["spatial_features"], inputs["font_embedding"])
        torch.testing.assert_close(staged, model(**inputs), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "total"),
    [
        ("triple_backbone_resnet50", 77_787_717),
        ("shared_backbone_resnet50", 30_771_653),
        ("channel_fusion_lora_resnet50", 27_240_928),
    ],
)
def test_parameter_counts_are_exact(name, total):
    assert get_model_info(name).total_params == total


def test_lora_trains_under_15_percent():
    assert get_model_info("channel_fusion_lora_resnet50").trainable_share < 0.15


def test_lora_adapts_all_36_pointwise_convolutions_and_trains_batch_norm():
    model = create_model("channel_fusion_lora_resnet50", validate=False)
    trainable = {name for name, p in model.named_parameters() if p.requires_grad}
    assert sum("lora_A" in name for name in trainable) == 36
    assert any(".bn1." in name for name in trainable)
    assert not any("conv" in name and "lora" not in name for name in trainable)


@pytest.mark.parametrize("options", [{"rank": 0}, {"alpha": 0}])
def test_lora_without_rank_or_alpha_is_refused(options):
    with pytest.raises(UsageError, match="rank >= 1 and alpha >= 1"):
        create_model("channel_fusion_lora_resnet50", **options)


def test_grouped_convolutions_are_refused_when_the_model_is_made():
    with pytest.raises(UsageError, match="grouped convolutions: 1"):
        pointwise_convolutions(nn.Sequential(nn.ReLU(), nn.Conv2d(4, 4, 1, groups=2)))


def test_channel_fusion_starts_as_the_mean_of_the_pictures_per_colour():
    pictures = [torch.rand(2, 3, 5, 7) for _ in range(3)]
    with torch.inference_mode():
        fused = colour_mean_fusion(3)(torch.cat(pictures, dim=1))
    torch.testing.assert_close(fused, torch.stack(pictures).mean(dim=0))


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory):
    from torchvision.models import resnet50

    path = tmp_path_factory.mktemp("weights") / "resnet50.pth"
    torch.manual_seed(1)
    torch.save(resnet50(weights=None).state_dict(), path)
    return path


@pytest.mark.parametrize("name", RESNET50)
def test_pretrained_takes_weights_from_a_file(name, weights_file):
    wanted = torch.load(weights_file, weights_only=True)["layer1.0.conv2.weight"]
    model = create_model(name, pretrained=str(weights_file), validate=False)
    loaded = [p for key, p in model.named_parameters() if key.endswith("layer1.0.conv2.weight")]
    assert loaded
    assert all(torch.equal(p, wanted) for p in loaded)


def test_pretrained_takes_imagenet_weights_that_lie_in_the_cache(weights_file, monkeypatch):
    from torchvision.models import ResNet50_Weights

    state = torch.load(weights_file, weights_only=True)
    monkeypatch.setattr(ResNet50_Weights, "get_state_dict", lambda self, **options: state)
    assert torch.equal(resnet50_backbone(True).conv1.weight, state["conv1.weight"])


def test_pretrained_weights_that_cannot_be_fetched_name_the_way_out(monkeypatch):
    def offline(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    with pytest.raises(ModelError, match=r"--no-pretrained.*resnet50-.*\.pth"):
        resnet50_backbone(True)


def test_missing_weights_are_named(tmp_path):
    with pytest.raises(ModelError, match="do not exist"):
        resnet50_backbone(str(tmp_path / "none.pth"))


def test_a_file_that_is_no_state_dict_is_refused(tmp_path):
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(ModelError, match="cannot be read"):
        resnet50_backbone(str(tmp_path / "text.pth"))
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ModelError, match="must hold a state dict"):
        resnet50_backbone(str(tmp_path / "list.pth"))


def test_weights_of_another_network_are_refused(tmp_path):
    torch.save({"weight": torch.zeros(2, 2)}, tmp_path / "other.pth")
    with pytest.raises(ModelError, match="do not fit Linear"):
        load_backbone_weights(nn.Linear(3, 3), str(tmp_path / "other.pth"), None, head="fc.")
