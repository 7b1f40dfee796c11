"""Changes in doubt, and what a closer look at pieces of the region says of them."""

import json
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
from tiny_models import CAPTION, EMPTY, REGION, bright_video, levels_of, tiny_model

from cb_runtime import limits
from cb_runtime import video as video_sources
from cb_runtime.closer_look import LONGEST, OFFSETS, CloserLook, compared, pieces_of
from cb_runtime.contract import LABELS, REVERSED_LABEL, Decoding
from cb_runtime.doubts import APART, HINT, SURE, Doubt, doubtful_changes
from cb_runtime.geometry import Box
from cb_runtime.layout import CaptionLayout
from cb_runtime.pipeline import Profile
from cb_runtime.predictor import BoundaryPredictor
from cb_runtime.scoring import PairScores
from cb_runtime.session import open_session, softmax
from cb_runtime.video.types import DecodeReport, Frame, VideoInfo

FRAMES, CHANGE = 40, 20
ONE_DISTANCE = Decoding(distances=(1,), change_penalty=0.0, far_distance=8)


def layout(region, boxes=()):
    return CaptionLayout(1280, 720, region, "center", tuple(boxes), 1 if boxes else 0)


class TestPieces:
    def test_a_short_line_is_one_piece(self):
        region = Box(400, 600, 800, 650)
        assert pieces_of(layout(region, [Box(410, 605, 790, 645)])) == (region,)

    def test_a_long_line_is_cut_into_parts_that_a_strip_need_not_squeeze(self):
        region = Box(100, 600, 1200, 650)
        pieces = pieces_of(layout(region, [Box(110, 605, 1190, 645)]))
        assert len(pieces) == 3
        assert all(piece.width <= piece.height * (LONGEST + 2) for piece in pieces)
        assert all((piece.top, piece.bottom) == (region.top, region.bottom) for piece in pieces)

    @pytest.mark.parametrize(("height", "rows"), [(50, 1), (110, 2), (160, 3), (210, 3)])
    def test_boxes_tell_how_many_lines_there_are(self, height, rows):
        region = Box(400, 500, 800, 500 + height)
        boxes = [Box(420, 500 + height - 48, 780, 500 + height - 8)]
        assert len({(piece.top, piece.bottom) for piece in pieces_of(layout(region, boxes))}) == rows

    def test_boxes_elsewhere_tell_nothing(self):
        region = Box(400, 500, 800, 600)
        elsewhere = [Box(0, 0, 100, 20), Box(500, 590, 600, 640), Box(0, 520, 300, 540)]
        assert pieces_of(layout(region, elsewhere)) == pieces_of(layout(region))

    def test_without_boxes_a_region_is_cut_for_one_line_and_for_two(self):
        region = Box(400, 500, 1000, 600)
        pieces = pieces_of(layout(region))
        assert pieces[0] == region
        assert {(piece.top, piece.bottom) for piece in pieces[1:]} == {(500, 554), (546, 600)}
        assert len(pieces) == 1 + 2 * 2

    def test_pieces_cover_the_region_and_reach_into_each_other(self):
        region = Box(10, 500, 1270, 610)
        pieces = pieces_of(layout(region, [Box(100, 505, 1100, 550)]))
        covered = np.zeros((720, 1280), int)
        for piece in pieces:
            assert region.left <= piece.left < piece.right <= region.right
            assert region.top <= piece.top < piece.bottom <= region.bottom
            covered[piece.top : piece.bottom, piece.left : piece.right] += 1
        assert covered[500:610, 10:1270].min() == 1
        assert covered.max() == 4
        assert covered.sum() == covered[500:610, 10:1270].sum()


def scores_of(surer, far=None, shown=range(4, 36)):
    """Return scores of a video whose neighbours are surer of `different` than of `same` by so much at each frame."""

    def rows(distance, of):
        values = np.full((FRAMES - distance, len(LABELS)), -20.0)
        for first in range(FRAMES - distance):
            one, other = first in shown, first + distance in shown
            if one and other:
                values[first, 0] = 0
                values[first, 1] = max(of.get(frame, -9.0) for frame in range(first + 1, first + distance + 1))
            else:
                values[first, 2 if not (one or other) else 3 if other else 4] = 0
        return softmax(values.astype(np.float32))

    forward = {1: rows(1, surer), 8: rows(8, surer if far is None else far)}
    return PairScores(forward, {distance: of[:, REVERSED_LABEL] for distance, of in forward.items()})


class TestDoubts:
    def frames(self, *arguments, **options):
        return [doubt.frame for doubt in doubtful_changes(scores_of(*arguments, **options), ONE_DISTANCE)]

    def test_a_change_that_pairs_hardly_see_is_in_doubt(self):
        assert doubtful_changes(scores_of({CHANGE: 3.0}), ONE_DISTANCE) == [Doubt(CHANGE, 4, 36)]

    def test_a_change_that_all_are_sure_of_is_not(self):
        assert self.frames({CHANGE: SURE + 1}) == []

    def test_a_change_that_far_pairs_doubt_is(self):
        assert self.frames({CHANGE: SURE + 1}, far={CHANGE: 1.0}) == [CHANGE]

    def test_a_hint_of_one_within_a_caption_is(self):
        assert self.frames({CHANGE: HINT + 0.1}) == [CHANGE]
        assert self.frames({CHANGE: HINT - 0.1}) == []

    def test_of_hints_near_each_other_the_strongest_is(self):
        assert self.frames({CHANGE: -1.0, CHANGE + 2: -0.5}) == [CHANGE + 2]
        assert self.frames({CHANGE: -1.0, CHANGE + APART + 1: -0.5}) == [CHANGE, CHANGE + APART + 1]

    def test_hints_at_the_ends_of_a_caption_are_fades(self):
        assert self.frames({4 + APART - 1: -1.0, 36 - APART + 1: -1.0}) == []
        assert self.frames({4 + APART: -1.0, 36 - APART: -1.0}) == [4 + APART, 36 - APART]

    def test_a_video_without_captions_or_pairs_has_none(self):
        assert self.frames({}, shown=()) == []
        nothing = {distance: np.zeros((0, len(LABELS)), np.float32) for distance in (1, 8)}
        assert doubtful_changes(PairScores(nothing, nothing), ONE_DISTANCE) == []


def test_frames_beside_a_change_are_compared_within_its_captions():
    assert compared(Doubt(20, 0, 40)) == [(19 - offset, 20 + offset) for offset in OFFSETS]
    assert compared(Doubt(20, 17, 40)) == [(18, 21)]
    assert compared(Doubt(20, 0, 23)) == [(18, 21)]
    assert compared(Doubt(20, 19, 21)) == []


class TestLooking:
    """With a model that goes by brightness, a piece that changes is as bright or dark as nothing else."""

    @pytest.fixture
    def look(self, tmp_path):
        session = open_session(tiny_model(tmp_path / "m.onnx"), device="cpu", backend="onnxruntime")
        region = Box(10, 20, 10 + 480, 20 + 24)
        return CloserLook(session, CaptionLayout(640, 160, region, "center"), np.zeros(512, np.float32), 2)

    def frames(self, levels):
        """Give frames at PTS 10 i whose left and right third have such levels."""
        for index, (left, right) in levels.items():
            image = np.full((24, 480, 3), CAPTION, np.uint8)
            image[:, :160], image[:, 320:] = left, right
            yield Frame(-1, 10 * index, 10, image)

    def test_one_piece_that_changes_is_a_change(self, look):
        levels = {index: (CAPTION, CAPTION if index < 20 else CAPTION - 60) for index in range(FRAMES)}
        wanted = {frame: levels[frame] for frame in (5, 8, 11, 14, 15, 18, 21, 24)}
        doubts = [Doubt(10, 0, 20), Doubt(20, 10, 40)]
        found = dict(look.results(doubts, self.frames(wanted), range(0, 10 * FRAMES, 10)))
        assert found[10] < -5
        assert found[20] > 5

    def test_a_line_that_goes_is_a_change(self, look):
        levels = {index: (CAPTION, CAPTION if index < 20 else EMPTY) for index in (15, 18, 21, 24)}
        ((frame, surer),) = look.results([Doubt(20, 0, 40)], self.frames(levels), range(0, 10 * FRAMES, 10))
        assert frame == 20
        assert surer > 5

    def test_what_cannot_be_read_again_has_no_result(self, look):
        levels = dict.fromkeys((15, 18, 21, 25, 28, 31, 34), (CAPTION, CAPTION))
        doubts = [Doubt(20, 0, 40), Doubt(30, 0, 40), Doubt(33, 32, 34)]
        found = look.results(doubts, self.frames(levels), range(0, 10 * FRAMES, 10))
        assert [frame for frame, _ in found] == [30]

    def test_doubts_that_share_frames_and_many_of_them_each_get_their_own(self, look):
        asked = range(6, 200, 4)
        changes = {frame for frame in asked if frame % 3 == 0}
        levels = {0: (CAPTION, CAPTION - 60)}
        for index in range(1, 210):
            levels[index] = levels[index - 1][::-1] if index in changes else levels[index - 1]
        doubts = [Doubt(frame, frame - 2, frame + 2) for frame in asked]
        found = dict(look.results(doubts, self.frames(levels), range(0, 2100, 10)))
        assert list(found) == list(asked)
        assert {frame for frame, surer in found.items() if surer > 0} == changes

    def test_without_doubts_no_frame_is_read(self, look):
        assert list(look.results([], iter(()), range(10))) == []


@pytest.mark.parametrize(("boxes", "looks"), [((), 1), ((Box(*REGION),), 0)])
def test_a_predictor_looks_closer_unless_told_otherwise_or_there_is_one_piece(tmp_path, boxes, looks):
    """Two captions that differ by 18 grey levels: the tiny model is a little surer of `different` than of `same`."""
    video = bright_video(tmp_path / "v.mp4", levels_of((EMPTY, 9), (CAPTION, 12), (CAPTION - 18, 12), (EMPTY, 9)))
    file = tmp_path / "layout.json"
    file.write_text(json.dumps(CaptionLayout(320, 160, Box(*REGION), "center", boxes, len(boxes)).to_dict()))
    found = {}
    for closer in (True, False):
        predictor = BoundaryPredictor(tiny_model(tmp_path / "m.onnx"), device="cpu", closer=closer)
        track = predictor.predict_video(video, layout_file=file)
        found[closer] = track.statistics["closer_looks"], track.statistics["closer"]
    assert found == {True: (looks, True), False: (0, False)}


class Source:
    """Frames with two captions that are nearly one."""

    LEVELS = levels_of((EMPTY, 9), (CAPTION, 12), (CAPTION - 18, 12), (EMPTY, 9))

    def __init__(self):
        self.report = DecodeReport()
        self.info = VideoInfo("fake.mp4", 320, 160, Fraction(1, 25), Fraction(25), len(self.LEVELS), None)

    def frames(self, region=None):
        for number in range(len(self.LEVELS)):
            yield Frame(number, number, 1, np.full((region.height, region.width, 3), self.LEVELS[number], np.uint8))

    def again(self, times, region=None):
        return (frame for frame in self.frames(region) if frame.pts in times)

    def close(self):
        pass


LONG_LINE = "0,0,320,16"


class TestInAVideo:
    @pytest.fixture
    def predictor(self, tmp_path):
        return BoundaryPredictor(tiny_model(tmp_path / "m.onnx"), device="cpu", backend="onnxruntime")

    @pytest.mark.parametrize("overlap", [False, True])
    def test_it_is_taken_with_the_stages_overlapped_or_by_turns(self, predictor, monkeypatch, overlap):
        monkeypatch.setattr(video_sources, "open_source", lambda path, **options: Source())
        told, profile = [], Profile()
        options = {"region": LONG_LINE, "overlap": overlap, "profile": profile}
        scored = predictor.score_video("x", **options, progress=lambda *phase: told.append(phase))
        assert list(scored.closer) == [21]
        assert told[-1] == ("Looking closer", 1, 1)
        assert {"seek", "closer look"} <= {stage.name for stage in profile.stages}

    def test_out_of_time_it_leaves_the_rest_as_it_was_and_says_so(self, predictor, monkeypatch):
        clock = [0.0]
        monkeypatch.setattr(limits, "time", SimpleNamespace(monotonic=lambda: clock[0]))

        def read_again(times, region):
            clock[0] = 60.0
            return Source().frames(region)

        source = Source()
        source.again = read_again
        monkeypatch.setattr(video_sources, "open_source", lambda path, **options: source)
        track = predictor.predict_video("x", region=LONG_LINE, timeout=30)
        assert [(span.start_frame, span.end_frame) for span in track.spans] == [(9, 21), (21, 33)]
        assert track.partial, "with more time there may be other captions, so --resume does it again"
        assert track.statistics["timed_out"]
        assert any("of 1 changes in doubt 0 were looked at more closely" in message for message in track.messages)
