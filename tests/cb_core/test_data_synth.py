import json
from contextlib import closing
from fractions import Fraction

import numpy as np

from cb_core.data.captions import read_captions
from cb_core.data.timeline import Timeline, annotate
from cb_core.synth.collection import render_videos
from cb_runtime.video import open_source


def test_subtitles_and_ground_truth_of_a_rendered_video_label_every_frame_alike(tmp_path):
    render_videos(tmp_path, 2, 3, 5, size=(160, 120), frame_rate=Fraction(24000, 1001))
    for video in sorted(tmp_path.glob("*.m[pk][4v]")):
        with closing(open_source(video)) as source:
            frames = [(frame.pts, frame.duration) for frame in source.frames()]
            pts = np.array([pts for pts, _ in frames])
            timeline = Timeline(pts, sum(frames[-1]), source.info.time_base)
        truth = video.with_suffix(".truth.json")
        exact = annotate(timeline, read_captions(truth))
        assert np.array_equal(exact.states, annotate(timeline, read_captions(video.with_suffix(".srt"))).states)
        told = [(entry["start_frame"], entry["end_frame"]) for entry in json.loads(truth.read_text())["captions"]]
        assert [(caption.start_frame, caption.end_frame) for caption in exact.captions] == told
