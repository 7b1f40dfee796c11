"""The registry: three ways to add an architecture, and what it refuses."""

import sys
import textwrap

import pytest
import torch
from torch import nn

from cb_core import registry
from cb_core.registry import (
    create_model,
    create_model_for_weights,
    create_model_from_config,
    get_model_info,
    list_architectures,
    load_plugin,
    register_model,
    validate_model,
)
from cb_runtime.errors import MissingPackageError, ModelError, UsageError

ARCHITECTURE = """
    import torch
    from torch import nn
    from cb_core.registry import register_model

    class Tiny(nn.Module):
        def __init__(self, hidden):
            super().__init__()
            self.linear = nn.Linear(6, hidden)
            self.out = nn.Linear(hidden, 5)
        def forward(self, ocr_viz, frame1, frame2, spatial_features, font_embedding):
            return self.out(self.linear(spatial_features))
        def get_num_trainable_params(self):
            return sum(p.numel() for p in self.parameters() if p.requires_grad)
        def get_num_total_params(self):
            return sum(p.numel() for p in self.parameters())

    @register_model("NAME")
    def make(hidden: int = 4):
        '''A tiny one.'''
        return Tiny(hidden)
"""


@pytest.fixture(autouse=True)
def restored_registry(monkeypatch):
    list_architectures()
    monkeypatch.setattr(registry, "_factories", dict(registry._factories))


def write_architecture(path, name):
    path.write_text(textwrap.dedent(ARCHITECTURE).replace("NAME", name))
    return path


def test_an_architecture_is_added_by_a_plugin_file(tmp_path):
    load_plugin(write_architecture(tmp_path / "mine.py", "from_plugin"))
    assert "from_plugin" in list_architectures()
    assert create_model("from_plugin", hidden=7).linear.out_features == 7


def test_a_plugin_given_twice_is_harmless(tmp_path):
    file = write_architecture(tmp_path / "mine.py", "twice")
    load_plugin(file)
    load_plugin(file)
    assert "twice" in list_architectures()


def test_an_architecture_is_added_by_one_file_in_the_architectures_folder(tmp_path, monkeypatch):
    import cb_core.architectures as folder

    write_architecture(tmp_path / "added_by_file.py", "from_file")
    monkeypatch.setattr(folder, "__path__", [*folder.__path__, str(tmp_path)])
    registry._load_all.cache_clear()
    assert "from_file" in list_architectures()


def test_an_architecture_is_added_by_another_packages_entry_point(tmp_path, monkeypatch):
    write_architecture(tmp_path / "third_party.py", "from_entry_point")
    info = tmp_path / "third_party-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: third-party\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[cb.architectures]\nmine = third_party\n")
    monkeypatch.syspath_prepend(tmp_path)
    registry._load_all.cache_clear()
    assert "from_entry_point" in list_architectures()
    sys.modules.pop("third_party")


def test_a_name_is_taken_once_and_the_holder_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"already registered by cb_core\.architectures\.shared_backbone_resnet50"):
        load_plugin(write_architecture(tmp_path / "clash.py", "shared_backbone_resnet50"))


def test_an_unknown_architecture_is_answered_with_the_known_ones():
    with pytest.raises(ModelError, match=r"Known: .*compact_aligned_resnet.*--plugin"):
        create_model("resnet_9000")


def test_an_unknown_option_is_answered_with_the_known_ones():
    with pytest.raises(UsageError, match=r"no option wdith.*It has: width"):
        create_model("compact_aligned_resnet", wdith=3)


@pytest.mark.parametrize("key", ["name", "validate", "self"])
def test_a_key_of_the_users_is_never_an_argument_of_the_registrys_own(key):
    for create in (create_model_from_config, create_model_for_weights):
        with pytest.raises(UsageError, match=f"has no option {key}"):
            create("compact_aligned_resnet", {key: False})


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("compact_aligned_resnet", {"dropout": 2}),
        ("compact_aligned_resnet", {"width": "a"}),
        ("compact_aligned_resnet", {"width": 0}),
        ("compact_aligned_resnet", {"width": -4}),
        ("cross_attention_fusion", {"heads": 0}),
        ("shared_backbone_vit", {"variant": ["tiny"]}),
        ("channel_fusion_lora_resnet50", {"rank": "a"}),
    ],
)
def test_a_value_an_architecture_cannot_be_made_with_is_shown(name, options):
    with pytest.raises(UsageError, match=rf"'{name}' cannot be made with model_config .*cb models --json") as caught:
        create_model(name, **options)
    assert str(options) in str(caught.value)


def test_labels_are_not_configurable():
    with pytest.raises(UsageError, match="num_classes must be 5"):
        create_model("compact_aligned_resnet", num_classes=4)


@pytest.mark.parametrize(
    ("content", "message"), [("1 / 0", "ZeroDivisionError"), ("raise UsageError('no')", "NameError")]
)
def test_a_plugin_that_fails_says_why(tmp_path, content, message):
    file = tmp_path / "bad.py"
    file.write_text(content)
    with pytest.raises(UsageError, match=message):
        load_plugin(file)


def test_a_missing_plugin_is_named(tmp_path):
    with pytest.raises(UsageError, match="does not exist"):
        load_plugin(tmp_path / "none.py")


def test_a_plugin_that_is_not_python_is_refused(tmp_path):
    (tmp_path / "plugin.txt").write_text("x")
    with pytest.raises(UsageError, match="not a Python file"):
        load_plugin(tmp_path / "plugin.txt")


class Wrong(nn.Module):
    def __init__(self, outputs=5):
        super().__init__()
        self.linear = nn.Linear(6, outputs)

    def forward(self, ocr_viz, frame1, frame2, spatial_features, font_embedding):
        return self.linear(spatial_features)


class WrongNames(Wrong):
    def forward(self, frame1, frame2, ocr_viz, spatial_features, font_embedding):
        return self.linear(spatial_features)


class Counted(Wrong):
    def get_num_trainable_params(self):
        return 1

    def get_num_total_params(self):
        return 1


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (WrongNames(), r"forward must take \(ocr_viz, frame1"),
        (Wrong(), r"must have a method get_num_trainable_params"),
        (Counted(outputs=4), r"must return logits \(batch, 5\), got \(2, 4\)"),
    ],
)
def test_a_model_that_breaks_the_contract_is_refused(model, message):
    with pytest.raises(ModelError, match=message):
        validate_model(model)


def test_validation_leaves_the_training_mode_as_it_was():
    model = Counted().train()
    validate_model(model)
    assert model.training


def test_model_info_reads_no_weights(monkeypatch):
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *a, **k: pytest.fail("weights were fetched"))
    assert get_model_info("shared_backbone_resnet50").total_params == 30_771_653


def test_nothing_pretrained_is_read_when_a_checkpoint_follows(monkeypatch):
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *a, **k: pytest.fail("weights were fetched"))
    create_model_for_weights("shared_backbone_resnet50", {"pretrained": True})


def test_without_torch_the_extra_is_named(monkeypatch):
    registry._load_all.cache_clear()
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'cb-toolkit\[train\]'"):
        list_architectures()
    monkeypatch.undo()
    list_architectures()


def test_register_model_returns_the_factory_unchanged():
    def factory():
        return Counted()

    assert register_model("unchanged")(factory) is factory
