"""Render a test set that shares nothing with training: ffmpeg and libass over footage and photos out of packages.

    python benchmarks/independent/render.py OUT --videos 48 --seed 1 --jobs 2

Each video comes with an `.srt` and a `.truth.json` like those of `cb synth`, measured from rendered captions (see
`measure.py`) and checked on the encoded video (see `proof.py`). What is there already is kept, so that an interrupted
run goes on. Needs Debian's ffmpeg, apt-get, dpkg and npm, and the network once; packages are kept in `--cache`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from fractions import Fraction
from pathlib import Path

from backgrounds import background, frame_times
from captions import write_captions
from document import truth_document
from ffmpeg import require_ffmpeg, run_ffmpeg
from measure import Shown, measure_captions
from plan import VideoPlan, plan_videos
from proof import Proof, prove
from sources import Library, load_library
from subtitles import burned_in, check_fonts, write_subtitles

from cb_core.synth.render import VideoFiles, files_of
from cb_core.synth.truth import read_truth, srt_text
from cb_runtime.errors import CbError, UsageError
from cb_runtime.files import atomic_path
from cb_runtime.geometry import Box


def render_video(plan: VideoPlan, library: Library, folder: Path) -> VideoFiles:
    """Render one video with its subtitles and ground truth; the video is published last, when all is proven.

    Raises RuntimeError when the encoded video contradicts the ground truth: a bug of ours.
    """
    files = files_of(folder, plan.stem, plan.suffix)
    events = write_captions(plan)
    times = frame_times(plan)
    with tempfile.TemporaryDirectory(prefix="libass-set-") as name:
        scratch = Path(name)
        shown, frames = measure_captions(plan, events, library.fonts, times.filters, scratch)
        write_subtitles(burned_in(plan, events), scratch / "captions.ass")
        with atomic_path(files.video) as video, atomic_path(files.truth) as truth, atomic_path(files.subtitles) as srt:
            proof = _encode(plan, library, scratch, video, shown)
            document = truth_document(plan, video, files.video.name, shown, frames, proof)
            truth.write_text(json.dumps(document, ensure_ascii=False) + "\n", encoding="utf-8")
            base = Fraction(*document["time_base"])
            srt.write_text(srt_text(document["captions"], base), encoding="utf-8")
    return files


def _encode(plan: VideoPlan, library: Library, scratch: Path, video: Path, shown: Sequence[Shown]) -> Proof | None:
    graph, times = background(plan, library), frame_times(plan)
    encoder = [*plan.encoding, *times.options, "-threads", "1", "-pix_fmt", "yuv420p", "-fps_mode", "passthrough"]
    encoder += ["-f", "matroska" if plan.suffix == ".mkv" else "mp4", str(video)]
    start = [*graph.inputs, "-filter_complex_threads", "1", "-filter_complex"]
    captions = f"ass={scratch / 'captions.ass'}:fontsdir={library.fonts}"
    if not shown:
        run_ffmpeg([*start, f"{graph.filters};[background]{times.filters}[out]", "-map", "[out]", *encoder])
        return None
    filters = f"{graph.filters};[background]{captions},{times.filters}[out]"
    check_fonts(run_ffmpeg([*start, filters, "-map", "[out]", *encoder]), plan.font)
    proof = prove(video, _region(plan, shown), shown)
    if proof.disagreeing:
        raise RuntimeError(f"{plan.stem} shows cuts on other frames than its ground truth: {proof.disagreeing}.")
    return proof


def _region(plan: VideoPlan, shown: Sequence[Shown]) -> Box:
    boxes = [caption.region for caption in shown]
    region = Box(
        min(box.left for box in boxes),
        min(box.top for box in boxes),
        max(box.right for box in boxes),
        max(box.bottom for box in boxes),
    )
    if min(region.left, region.top) == 0 or region.right == plan.size[0] or region.bottom == plan.size[1]:
        raise RuntimeError(f"{plan.stem}: captions touch the frame's edge ({region}); they are cut off.")
    return region


def is_done(plan: VideoPlan, folder: Path) -> bool:
    """Tell whether a video is there, whole and by this plan. Raises UsageError when it is there by another."""
    files = files_of(folder, plan.stem, plan.suffix)
    if not (files.truth.exists() and files.video.exists() and files.subtitles.exists()):
        return False
    if read_truth(files.truth).get("settings_digest") != plan.digest():
        raise UsageError(f"{files.truth} was rendered with other settings. Choose another folder or remove it.")
    return True


def render_set(plans: Sequence[VideoPlan], library: Library, folder: Path, jobs: int) -> Iterator[VideoPlan]:
    """Render what is missing of a set, giving each plan when it is done."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [plan for plan in plans if not is_done(plan, folder)]
    failures: list[Exception] = []
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        waiting = {pool.submit(render_video, plan, library, folder): plan for plan in missing}
        for future in as_completed(waiting):
            error = future.exception()
            if error is None:
                yield waiting[future]
            elif isinstance(error, Exception):
                failures.append(error)
            else:
                raise error
    if failures:
        raise ExceptionGroup(f"{len(failures)} of {len(missing)} videos failed; run again to render them.", failures)


def main() -> None:
    """Parse arguments, fetch what is needed, render, and say what there is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where videos go")
    parser.add_argument("--videos", type=int, default=48, help="how many")
    parser.add_argument("--seconds", type=float, default=25.0, help="length of each")
    parser.add_argument("--seed", type=int, default=1, help="the same seed gives the same set")
    parser.add_argument("--jobs", type=int, default=1, help="how many processes render")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "cb-libass-set", help="for packages")
    arguments = parser.parse_args()
    began = time.perf_counter()
    try:
        require_ffmpeg()
        library = load_library(arguments.cache.resolve())
        plans = plan_videos(arguments.videos, arguments.seconds, arguments.seed)
        for done, plan in enumerate(render_set(plans, library, arguments.folder, arguments.jobs), 1):
            print(f"{done} rendered, {time.perf_counter() - began:.0f} s: {plan.stem}", file=sys.stderr, flush=True)
    except CbError as error:
        sys.exit(str(error))
    print(json.dumps(_summary(plans, arguments.folder)))


def _summary(plans: Sequence[VideoPlan], folder: Path) -> dict[str, int]:
    documents = [read_truth(files_of(folder, plan.stem, plan.suffix).truth) for plan in plans]
    frames = [{frame for c in d["captions"] for frame in (c["start_frame"], c["end_frame"])} for d in documents]
    proofs = [d["details"]["proof"] or {"agreeing": 0, "inconclusive": 0} for d in documents]
    return {
        "videos": len(documents),
        "frames": sum(d["frames"] for d in documents),
        "captions": sum(len(d["captions"]) for d in documents),
        "boundaries": sum(len(found - {0, d["frames"]}) for found, d in zip(frames, documents, strict=True)),
        "cuts_seen_in_the_encoded_video": sum(proof["agreeing"] for proof in proofs),
        "cuts_hidden_by_compression": sum(proof["inconclusive"] for proof in proofs),
    }


if __name__ == "__main__":
    main()
