"""Videos decoded by a GPU's NVDEC: pretended, see `pretended_nvdec.py`, but for the last test, which needs a GPU."""

import ctypes
import json
from types import SimpleNamespace

import av
import numpy as np
import pytest
from av.codec import hwaccel
from av.error import InvalidDataError
from click.testing import CliRunner
from pretended_nvdec import PretendedPacket, pretend_nvdec
from tiny_models import CAPTION, EMPTY, REGION_TEXT, bright_video, levels_of, tiny_model
from tiny_videos import MILLISECONDS, VARIABLE_PTS, make_video, set_display_matrix

from cb_runtime import doctor
from cb_runtime import predictor as predictor_module
from cb_runtime.cli import main
from cb_runtime.errors import InputError, UsageError
from cb_runtime.geometry import Box
from cb_runtime.gpus import list_gpus
from cb_runtime.layout import layout_from_region
from cb_runtime.predictor import BoundaryPredictor
from cb_runtime.video import nvdec, open_source
from cb_runtime.video.database import write_video_database
from cb_runtime.video.nvdec import NvdecError

VIDEOS = {
    "h264": ("v.mp4", {}),
    "variable_rate": ("v.mkv", {"pts": VARIABLE_PTS, "time_base": MILLISECONDS}),
    "bt709": ("v.mp4", {"colour": (1, 1)}),
    "full_range": ("v.mkv", {"colour": (1, 2)}),
    "ten_bit": ("v.mkv", {"pixel_format": "yuv420p10le", "colour": (9, 1)}),
    "chroma_422": ("v.mkv", {"pixel_format": "yuv422p"}),
    "chroma_444": ("v.mkv", {"pixel_format": "yuv444p"}),
    "hevc": ("v.mp4", {"codec": "libx265", "codec_options": {"x265-params": "log-level=none"}}),
    "vp9": ("v.webm", {"codec": "libvpx-vp9", "b_frames": 0}),
}
BOX = Box(7, 5, 33, 30)

no_gpu = pytest.mark.skipif(bool(list_gpus()), reason="an NVIDIA GPU is here")


@pytest.fixture
def opened_on(monkeypatch):
    """GPUs on which videos were opened, of two that are pretended."""
    return pretend_nvdec(monkeypatch, gpus=2)


@pytest.fixture
def video(tmp_path):
    return make_video(tmp_path / "v.mp4")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("model") / "best.onnx")


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return bright_video(tmp_path_factory.mktemp("film") / "film.mp4", levels_of((EMPTY, 6), (CAPTION, 10), (EMPTY, 4)))


def times(source):
    return [(frame.index, frame.pts, frame.duration) for frame in source.frames()]


class TestSameAsTheCpu:
    @pytest.mark.parametrize("kind", VIDEOS)
    def test_times_and_pixels_are_the_same(self, tmp_path, opened_on, kind):
        name, options = VIDEOS[kind]
        path = make_video(tmp_path / name, **options)
        cpu, gpu = open_source(path), open_source(path, decoder="nvdec")
        assert opened_on
        assert times(gpu) == times(cpu)
        assert gpu.info.time_base == cpu.info.time_base
        for region in (None, BOX):
            for one, other in zip(cpu.frames(region), gpu.frames(region), strict=True):
                np.testing.assert_array_equal(one.image, other.image)
        assert [frame.pts for frame in gpu.sample(4)] == [frame.pts for frame in cpu.sample(4)]

    def test_a_turned_video_is_turned(self, video, opened_on):
        set_display_matrix(video, 0, 1, -1, 0)
        cpu, gpu = open_source(video), open_source(video, decoder="nvdec")
        assert (gpu.info.width, gpu.info.height) == (cpu.info.width, cpu.info.height) == (48, 64)
        assert np.array_equal(next(gpu.frames(BOX)).image, next(cpu.frames(BOX)).image)

    def test_captions_are_the_same(self, model, film, opened_on):
        predictor = BoundaryPredictor(model)
        tracks = [predictor.predict_video(film, region=REGION_TEXT, decoder=name) for name in ("cpu", "nvdec", "auto")]
        assert len({track.spans for track in tracks}) == 1
        says = [(track.statistics["decoder"], track.statistics["decoder_reason"]) for track in tracks]
        assert says == [
            ("cpu", "as asked"),
            ("nvdec", "as asked, on cuda:0"),
            ("nvdec", "NVDEC can decode it, on cuda:0"),
        ]

    def test_what_it_cannot_decode_is_skipped_and_counted(self, video, opened_on, monkeypatch):
        source, whole = open_source(video, decoder="nvdec"), PretendedPacket.decode

        def failing(packet):
            frames = whole(packet)
            if any(frame.pts == 7 * 512 for frame in frames):
                raise InvalidDataError(1, "no surface left")
            return frames

        monkeypatch.setattr(PretendedPacket, "decode", failing)
        assert 7 not in [frame.pts // 512 for frame in source.frames()]
        assert source.report.errors == 1
        assert any("--decoder cpu" in message for message in source.report.messages)


class TestWhichGpu:
    def test_it_is_the_models(self, model, film, opened_on, monkeypatch):
        predictor = BoundaryPredictor(model)
        monkeypatch.setattr(type(predictor.session), "device", "cuda:1")
        track = predictor.predict_video(film, region=REGION_TEXT, decoder="nvdec")
        assert set(opened_on) == {1}
        assert track.statistics["decoder_reason"] == "as asked, on cuda:1"

    def test_one_that_is_not_there_is_an_error(self, video, opened_on):
        with pytest.raises(NvdecError, match=r"cuda:2 was asked for; this machine has 2 GPU"):
            open_source(video, decoder="nvdec", gpu=2)


class TestWhatCannotBeHad:
    """Whatever is missing is said, and nothing is decoded by the CPU instead."""

    @no_gpu
    def test_a_machine_without_a_gpu(self, video, tmp_path):
        with pytest.raises(UsageError, match=r"NVDEC cannot be had: .* --decoder cpu"):
            open_source(video, decoder="nvdec")

    def test_a_pyav_that_loses_what_frames_say(self, video, monkeypatch):
        monkeypatch.setattr(av, "__version__", "17.1.0")
        with pytest.raises(NvdecError, match=r"PyAV 17.1.0 is too old.*pip install 'cb-toolkit\[nvdec\]'"):
            open_source(video, decoder="nvdec")

    def test_a_pyav_that_was_built_without_it(self, video, monkeypatch):
        monkeypatch.setattr(hwaccel, "hwdevices_available", lambda: ["videotoolbox"])
        with pytest.raises(NvdecError, match=r"built without it.*--only-binary av"):
            open_source(video, decoder="nvdec")

    def test_a_container_without_the_drivers_library_for_video(self, video, monkeypatch):
        def missing(name):
            raise OSError(f"{name}: cannot open shared object file")

        monkeypatch.setattr(nvdec, "list_gpus", lambda: (SimpleNamespace(index=0),))
        monkeypatch.setattr(ctypes, "CDLL", missing)
        with pytest.raises(NvdecError, match=r"libnvcuvid.*NVIDIA_DRIVER_CAPABILITIES=compute,utility,video"):
            open_source(video, decoder="nvdec")

    @no_gpu
    def test_a_gpu_that_cuda_cannot_open(self, video, monkeypatch):
        """Really asks this FFmpeg for CUDA, and gets its error."""
        monkeypatch.setattr(nvdec, "require_nvdec", lambda gpu=0: None)
        monkeypatch.setattr("cb_runtime.video.file.require_nvdec", lambda gpu: None)
        with pytest.raises(NvdecError, match=r"NVDEC of cuda:0 cannot be opened for .*v\.mp4: .*cb doctor"):
            open_source(video, decoder="nvdec")

    @pytest.mark.parametrize(
        ("codec", "says"), [("ffv1", "ffv1 video, decoded here by ffv1"), ("libsvtav1", "av1 video, decoded.*dav1d")]
    )
    def test_a_codec_for_which_ffmpeg_would_use_the_cpu(self, tmp_path, opened_on, codec, says):
        path = make_video(tmp_path / "v.mkv", codec=codec, b_frames=0, size=(128, 96))
        with pytest.raises(NvdecError, match=says):
            open_source(path, decoder="nvdec")
        assert not opened_on

    def test_a_video_of_which_it_decodes_nothing(self, video, opened_on, monkeypatch):
        def failing(packet):
            raise InvalidDataError(1, "profile")

        monkeypatch.setattr(PretendedPacket, "decode", failing)
        monkeypatch.setattr("cb_runtime.video.decoding._pending", lambda stream: [])
        with pytest.raises(NvdecError, match="decoded no frame"):
            open_source(video, decoder="nvdec")

    def test_a_video_database(self, video, tmp_path, opened_on):
        source = open_source(video)
        write_video_database(tmp_path / "v.db", source, layout_from_region(source.info, Box(0, 0, 32, 32)))
        with pytest.raises(UsageError, match="JPEGs are decoded by the CPU"):
            open_source(tmp_path / "v.db", decoder="nvdec")
        assert open_source(tmp_path / "v.db", decoder="auto").info.decoder.name == "cpu"

    def test_threads_for_it(self, video, opened_on):
        with pytest.raises(UsageError, match="--decode-threads is for decoding on the CPU"):
            open_source(video, decoder="nvdec", decode_threads=2)

    def test_a_decoder_nobody_knows(self, video):
        with pytest.raises(UsageError, match="--decoder must be one of auto, cpu, nvdec, got gpu"):
            open_source(video, decoder="gpu")

    @pytest.mark.parametrize("decoder", ["nvdec", "auto"])
    def test_what_is_no_video_is_an_input_error(self, tmp_path, opened_on, decoder):
        (tmp_path / "v.mp4").write_text("hello world\n" * 50)
        with pytest.raises(InputError, match="video"):
            open_source(tmp_path / "v.mp4", decoder=decoder)


class TestAuto:
    def test_takes_the_cpu_where_nvdec_cannot_be_had_and_says_why(self, tmp_path, opened_on):
        path = make_video(tmp_path / "v.mkv", codec="ffv1", b_frames=0)
        decoder = open_source(path, decoder="auto", decode_threads=2).info.decoder
        assert decoder.name == "cpu"
        assert "NVDEC was tried first: " in decoder.reason
        assert "which has no NVDEC" in decoder.reason

    def test_says_that_threads_have_no_effect_on_it(self, video, opened_on):
        reason = open_source(video, decoder="auto", decode_threads=2).info.decoder.reason
        assert reason == "NVDEC can decode it; --decode-threads is for the CPU and has no effect there, on cuda:0"


class TestCommand:
    def run(self, model, film, tmp_path, *arguments):
        given = ["infer", film, "--checkpoint", model, "--output", tmp_path, "--region", REGION_TEXT, *arguments]
        return CliRunner().invoke(main, [str(argument) for argument in given])

    def test_says_what_decoded_and_the_json_output_too(self, model, film, tmp_path, opened_on):
        done = self.run(model, film, tmp_path, "--decoder", "auto")
        assert done.exit_code == 0, done.output
        assert "Decoded by nvdec (NVDEC can decode it, on cuda:0)." in done.stdout
        assert json.loads((tmp_path / "film.json").read_text())["statistics"]["decoder"] == "nvdec"

    @no_gpu
    @pytest.mark.parametrize(("decoder", "says"), [("nvdec", "NVDEC cannot be had"), ("gpu", "--decoder must be")])
    def test_refuses_before_any_work(self, model, film, tmp_path, decoder, says, monkeypatch):
        monkeypatch.setattr(predictor_module, "open_session", None)
        done = self.run(model, film, tmp_path, "--decoder", decoder)
        assert done.exit_code == 2
        assert says in done.stderr

    @no_gpu
    def test_many_videos_are_refused_at_once(self, model, film):
        with pytest.raises(NvdecError):
            list(BoundaryPredictor(model).predict_videos([film, film], decoder="nvdec"))

    def test_another_decoder_is_another_setting_for_resume(self, model, film, tmp_path, opened_on):
        self.run(model, film, tmp_path)
        again = [self.run(model, film, tmp_path, "--resume", "--json", *more) for more in ((), ("--decoder", "nvdec"))]
        assert [json.loads(done.stdout)["videos"][0]["resumed"] for done in again] == [True, False]

    def test_doctor_says_whether_it_is_there(self, monkeypatch):
        monkeypatch.setattr(av, "__version__", "16.0.0")
        (check,) = [check for check in doctor.check_machine() if check.name == "NVDEC"]
        assert (check.group, check.ok, check.fix) == ("gpu", False, "pip install 'cb-toolkit[nvdec]'")


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["h264", "variable_rate", "full_range", "hevc", "vp9"])
def test_with_a_gpu_nvdec_gives_the_times_and_pixels_of_the_cpu(tmp_path, kind):
    if not list_gpus():
        pytest.skip("no driver shows an NVIDIA GPU here")
    found = nvdec.available()
    assert found.ok, found
    name, options = VIDEOS[kind]
    # NVDEC has a least size for each codec.
    path = make_video(tmp_path / name, **options | {"size": (640, 360)})
    cpu, gpu = open_source(path), open_source(path, decoder="nvdec")
    with gpu._opened() as (container, _):
        assert next(container.decode(video=0)).format.name == "nv12"  # the CPU's decoder would give yuv420p
    assert times(gpu) == times(cpu)
    for region in (None, Box(101, 201, 540, 333)):
        for one, other in zip(cpu.frames(region), gpu.frames(region), strict=True):
            np.testing.assert_array_equal(one.image, other.image)
    assert gpu.report.messages == []
    assert [frame.pts for frame in gpu.sample(4)] == [frame.pts for frame in cpu.sample(4)]
