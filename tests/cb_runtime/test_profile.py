"""What the stages of a run do with their time, by a clock that the test turns."""

import cv2
import numpy as np
import pytest

from cb_runtime.pipeline import Pipeline, Profile, counted, working
from cb_runtime.pipeline.clock import waiting
from cb_runtime.pipeline.profile import BINS, BUSY, FIRST_BIN_SECONDS, INPUT, OUTPUT
from cb_runtime.pipeline.timeline import COLOURS, LEFT, PLOT, ROW, TOP, save_timeline, timeline_picture


class Clock:
    """Says the time that `passes` made it."""

    now = 100.0

    def __call__(self):
        return self.now

    def passes(self, seconds):
        self.now += seconds


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def profile(clock):
    return Profile(clock)


def spending(clock, seconds, items):
    for item in items:
        clock.passes(seconds)
        yield item


def in_turn(profile, clock):
    """Run three stages in turn: reading takes 1 s an item, changing 2 s, and the reader 5 s."""
    with Pipeline(overlapped=False, profile=profile) as pipeline:
        read = pipeline.ahead(spending(clock, 1, range(10)), "read", unit="lines")
        changed = pipeline.ahead(spending(clock, 2, read), "change", count=lambda item: 3)
        with pipeline.working("reader", unit="words"):
            for _ in changed:
                clock.passes(5)
                counted(2)


def test_each_stage_is_busy_with_its_own_work_and_waits_for_the_others(profile, clock):
    in_turn(profile, clock)
    rows = {row["name"]: row for row in profile.to_dict()["stages"]}
    assert {name: (row["items"], row["unit"]) for name, row in rows.items()} == {
        "read": (10, "lines"),
        "change": (30, "frames"),
        "reader": (20, "words"),
    }
    reader = rows["reader"]
    assert (reader["seconds"], reader["busy"], reader["waiting_for_input"]) == (80.0, 0.625, 0.375)
    assert reader["items_per_second"] == 0.2
    stages = {stage.name: stage.seconds.tolist() for stage in profile.stages}
    assert stages["read"] == [10, 0, 70 - 5 - 2 + 5 + 2]
    assert stages["change"] == [20, 10, 50]


def test_the_stage_that_is_busy_longest_sets_the_rate_among_those_that_run_side_by_side(profile, clock):
    with working(profile, "layout", streaming=False):
        clock.passes(1000)
    in_turn(profile, clock)
    assert profile.slowest().name == "reader"
    document = profile.to_dict()
    assert (document["rate_set_by"], document["longest_busy"]) == ("reader", "layout")
    empty = Profile(clock).to_dict()
    assert (empty["rate_set_by"], empty["longest_busy"]) == (None, None)


def test_a_part_of_a_stage_has_its_share_of_the_stage_s_time_and_the_stage_waits_with_it(profile, clock):
    def items():
        for _ in range(4):
            clock.passes(2)
            with waiting():
                clock.passes(3)
            yield "item"

    pipeline = Pipeline(overlapped=False, profile=profile)
    with pipeline.working("whole"):
        clock.passes(10)
        for _ in pipeline.inside(items(), "part", unit="pairs", count=lambda item: 5):
            clock.passes(1)
            counted(7)
    stages = {stage.name: stage for stage in profile.stages}
    assert stages["part"].seconds.tolist() == [8, 12, 0]
    assert stages["whole"].seconds.tolist() == [10 + 8 + 4, 12, 0]
    assert (stages["part"].items, stages["whole"].items) == (20, 28)
    assert profile.slowest() is stages["whole"]


def test_shares_of_a_stage_sum_to_one(profile, clock):
    in_turn(profile, clock)
    for stage in profile.stages:
        assert sum(stage.shares) == pytest.approx(1)


def test_stages_in_threads_of_their_own_wait_for_each_other():
    profile = Profile()
    with Pipeline(overlapped=True, profile=profile) as pipeline:
        items = pipeline.ahead(iter(range(500)), "read", depth=1)
        with pipeline.working("reader"):
            for _ in items:
                np.linalg.norm(np.ones(20_000))
    read, reader = profile.stages
    assert (read.name, read.items, reader.name) == ("read", 500, "reader")
    assert (read.seconds[OUTPUT] > 0) or (reader.seconds[INPUT] > 0)
    assert read.seconds[INPUT] == 0
    assert reader.seconds[OUTPUT] == 0
    assert max(stage.seconds.sum() for stage in profile.stages) <= profile.elapsed_seconds + 1e-9


@pytest.mark.parametrize("seconds", [0.0001, 0.3, 1.0, 77.7, 10_000.0])
def test_the_timeline_holds_all_time_in_bins_of_bounded_number(profile, clock, seconds):
    stage = profile.stage("one", "frames")
    for state in (BUSY, INPUT, OUTPUT, BUSY):
        began = clock()
        clock.passes(seconds)
        profile.add(stage, state, began, clock())
    assert stage.bins.shape == (3, BINS)
    np.testing.assert_allclose(stage.bins.sum(axis=1), stage.seconds)
    np.testing.assert_allclose(stage.seconds, [2 * seconds, seconds, seconds])
    assert stage.bins.max() <= profile.bin_seconds * (1 + 1e-9)
    assert profile.bin_seconds * BINS >= 4 * seconds
    assert profile.bin_seconds == FIRST_BIN_SECONDS or profile.bin_seconds * BINS < 8 * seconds


def test_time_stands_in_the_bins_in_which_it_was_spent(profile, clock):
    stage = profile.stage("one", "frames")
    bin_ = FIRST_BIN_SECONDS
    profile.add(stage, BUSY, 100 + 2.5 * bin_, 100 + 5.25 * bin_)
    np.testing.assert_allclose(stage.bins[BUSY, :7] / bin_, [0, 0, 0.5, 1, 1, 0.25, 0], atol=1e-6)


def test_without_a_profile_nothing_is_measured():
    with Pipeline(overlapped=False) as pipeline, working(None, "one"):
        assert list(pipeline.ahead(range(3), "two")) == [0, 1, 2]
        counted(1)


class TestPicture:
    def test_shows_when_each_stage_was_busy(self, profile, clock):
        for name in ("first", "second"):
            with working(profile, name):
                clock.passes(4)
        picture = timeline_picture(profile)
        middle = TOP + ROW // 2
        row = picture[middle, LEFT : LEFT + PLOT]
        busy = (row == COLOURS[BUSY]).all(axis=1)
        assert busy[8 : PLOT // 2 - 8].mean() > 0.98  # but for the lines of the axis
        assert busy[PLOT // 2 + 8 :].mean() == 0

    def test_stacks_the_shares_of_a_moment(self, profile, clock):
        stage = profile.stage("one", "frames")
        for _ in range(400):
            for state, share in ((BUSY, 0.25), (INPUT, 0.25), (OUTPUT, 0.5)):
                began = clock()
                clock.passes(share)
                profile.add(stage, state, began, clock())
        column = timeline_picture(profile)[TOP : TOP + ROW, LEFT + 30]
        shares = [(column == COLOURS[state]).all(axis=1).mean() for state in (BUSY, INPUT, OUTPUT)]
        assert shares == pytest.approx([0.25, 0.25, 0.5], abs=0.05)
        assert (column[-1] == COLOURS[BUSY]).all()

    def test_is_written_as_png(self, profile, clock, tmp_path):
        in_turn(profile, clock)
        save_timeline(profile, tmp_path / "new" / "times.png")
        image = cv2.cvtColor(cv2.imread(str(tmp_path / "new" / "times.png")), cv2.COLOR_BGR2RGB)
        assert (image == timeline_picture(profile)).all()

    def test_of_a_run_without_stages_can_be_drawn(self, profile):
        assert timeline_picture(profile).ndim == 3
