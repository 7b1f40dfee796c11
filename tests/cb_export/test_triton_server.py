"""What `cb export --triton` writes, served by a real Triton server."""

from __future__ import annotations

import time

import numpy as np
import pytest
import triton_server
from click.testing import CliRunner
from tiny_pairs import golden_of, random_inputs, seeded_model, tiny_pairs, write_run

from cb_core import registry
from cb_export.cli.export import export
from cb_export.triton.config import CONTRACT_PARAMETER, config_from_text
from cb_runtime.contract import INPUT_NAMES, LABELS, metadata_from_json

grpc = pytest.importorskip("tritonclient.grpc", reason="tritonclient is not installed: pip install '.[triton]'")
utils = pytest.importorskip("tritonclient.utils")
SERVER = triton_server.installed()
pytestmark = pytest.mark.skipif(
    SERVER is None, reason="no Triton server is installed: pip install --no-deps nvidia-pytriton"
)
LARGEST = 8


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    folder = tmp_path_factory.mktemp("triton")
    registry.list_architectures()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_factories", {**registry._factories, "tiny_pairs": tiny_pairs})
        given = ["--checkpoint", write_run(folder), "--triton", folder / "models", "--triton-name", "captions"]
        done = CliRunner().invoke(export, [str(word) for word in (*given, "--batches", f"1,2,{LARGEST}")])
    assert done.exit_code == 0, done.output
    return folder / "models"


@pytest.fixture(scope="module")
def client(repository, tmp_path_factory):
    with triton_server.serving(SERVER, repository, tmp_path_factory.mktemp("server")) as address:
        yield grpc.InferenceServerClient(address)


def request(rows):
    tensors = []
    for name in INPUT_NAMES:
        kind = "UINT8" if rows[name].dtype == np.uint8 else "FP32"
        tensors.append(grpc.InferInput(name, rows[name].shape, kind))
        tensors[-1].set_data_from_numpy(np.ascontiguousarray(rows[name]))
    return tensors


def row(inputs, index):
    return {name: values[index : index + 1] for name, values in inputs.items()}


def test_the_server_takes_the_configuration_as_it_was_written_and_warms_the_model_up(client, repository):
    written = config_from_text((repository / "captions" / "config.pbtxt").read_text())
    served = client.get_model_config("captions").config
    for field in ("name", "platform", "backend", "max_batch_size", "input", "output", "default_model_filename"):
        assert getattr(served, field) == getattr(written, field), field
    assert served.HasField("dynamic_batching")
    assert [sample.batch_size for sample in served.model_warmup] == [1, LARGEST]
    assert client.is_model_ready("captions")


def test_it_answers_as_pytorch_does(client):
    golden = golden_of(seeded_model())
    inputs = {name: golden.inputs[name][:LARGEST] for name in INPUT_NAMES}
    got = client.infer("captions", request(inputs)).as_numpy("logits")
    np.testing.assert_allclose(got, golden.logits[:LARGEST], atol=1e-4)


def test_a_client_reads_the_contract_and_the_labels_from_the_server(client):
    config = client.get_model_config("captions").config
    metadata = metadata_from_json(config.parameters[CONTRACT_PARAMETER].string_value)
    assert metadata.architecture_name == "tiny_pairs"
    golden = golden_of(seeded_model())
    wanted = grpc.InferRequestedOutput("logits", class_count=1)
    answer = client.infer("captions", request(row(golden.inputs, 3)), outputs=[wanted]).as_numpy("logits")
    assert answer[0, 0].decode().split(":")[-1] == LABELS[golden.logits[3].argmax()]


def settled(client, waiting, count):
    deadline = time.monotonic() + 120
    while len(waiting) < count and time.monotonic() < deadline:
        time.sleep(0.1)
    assert len(waiting) == count
    return client.get_inference_statistics("captions")


def test_requests_that_wait_are_put_into_batches_no_larger_than_what_was_proven(client):
    golden, answers = golden_of(seeded_model(), 60), {}
    for index in range(60):

        def keep(result, error, index=index):
            answers[index] = error or result.as_numpy("logits")[0]

        client.async_infer("captions", request(row(golden.inputs, index)), keep)
    statistics = settled(client, answers, 60)
    np.testing.assert_allclose(np.stack([answers[index] for index in range(60)]), golden.logits, atol=1e-4)
    sizes = [batch.batch_size for batch in statistics.model_stats[0].batch_stats]
    assert max(sizes) > 1
    assert max(sizes) <= LARGEST


def test_a_batch_larger_than_what_was_proven_is_refused(client):
    with pytest.raises(utils.InferenceServerException, match=f"batch-size must be <= {LARGEST}"):
        client.infer("captions", request(random_inputs(LARGEST + 1)))
