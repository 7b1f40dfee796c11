"""Frames whose strip is like the one before share its work."""

import numpy as np
import pytest
from captioned_strips import (
    KnowingExecutor,
    StagedExecutor,
    boundaries,
    moving_background,
    strip_with,
    strips_of_runs,
)

from cb_runtime.errors import UsageError
from cb_runtime.features import VideoInputs
from cb_runtime.scoring import score_strips
from cb_runtime.session import Session
from cb_runtime.skipping import Skipping
from cb_runtime.skipping.likeness import MOST_DIFFERENCE, AlikeButForNoise, KeptStrips, block_differences

INPUTS = VideoInputs(np.zeros((48, 480, 3), np.uint8), np.zeros(6, np.float32), np.zeros(512, np.float32))
RUNS = ((0, 5), (1, 6), (2, 1), (3, 4), (0, 2), (3, 2), (0, 1))


def scored(executor, strips, skip="equal", coarse=1, **options):
    return score_strips(Session(executor), strips, INPUTS, skipping=Skipping(skip, coarse), **options)


def kept(strips, alike):
    strips = KeptStrips(strips, alike)
    return len(list(strips)), strips.numbers.tolist()


@pytest.mark.parametrize("executor", [KnowingExecutor, StagedExecutor])
@pytest.mark.parametrize("batch_size", [1, 4, 50])
def test_equal_gives_exactly_what_looking_at_all_frames_gives(executor, batch_size):
    strips = strips_of_runs(*RUNS)
    skipped = scored(executor(), strips, batch_size=batch_size)
    exact = scored(executor(), strips, "none", batch_size=batch_size)
    for distance in (1, 2, 3):
        np.testing.assert_array_equal(skipped.forward_at[distance], exact.forward_at[distance])
        np.testing.assert_array_equal(skipped.backward_at[distance], exact.backward_at[distance])
    assert boundaries(skipped) == [5, 11, 12, 16, 18, 20]


def test_equal_strips_are_encoded_once_and_no_pair_of_strips_is_scored_twice():
    executor = StagedExecutor()
    scores = scored(executor, strips_of_runs(*RUNS))
    assert scores.frames_encoded == executor.stages.encoded == len(RUNS)
    frames = np.repeat(np.arange(len(RUNS)), [length for _, length in RUNS])
    wanted = {(frames[at], frames[at + d]) for d in (1, 2, 3) for at in range(len(frames) - d)}
    once = sum(1 + (one != other) for one, other in wanted)
    assert scores.pairs_scored == executor.stages.pairs == once
    assert scores.count == 2 * (20 + 19 + 18)


def test_none_looks_at_equal_strips_again():
    executor = StagedExecutor()
    scores = scored(executor, strips_of_runs(*RUNS), "none")
    assert scores.frames_encoded == executor.stages.encoded == 21
    assert scores.pairs_scored == executor.stages.pairs == scores.count


def test_equal_means_to_the_bit():
    strips = [strip_with(1), strip_with(1), strip_with(1)]
    strips[1][47, 479, 2] ^= 1
    assert kept(strips, np.array_equal) == (3, [0, 1, 2])


def test_a_strip_may_be_overwritten_once_the_next_is_asked_for():
    def reused():
        strip = np.empty((48, 480, 3), np.uint8)
        for caption in (1, 1, 3, 3, 0):
            strip[...] = strip_with(caption)
            yield strip

    assert boundaries(scored(KnowingExecutor(), reused())) == [2, 4]


def test_noise_of_a_still_picture_is_skipped():
    strips = strips_of_runs((0, 6), (1, 20), noise=2.0)
    scores = scored(KnowingExecutor(), strips, "noise")
    assert scores.frames_encoded == 2
    assert boundaries(scores) == [6]
    assert scored(KnowingExecutor(), strips, "equal").frames_encoded == 26


def test_what_counts_as_noise_depends_on_the_video():
    rule, other = AlikeButForNoise(), AlikeButForNoise()
    clean, noisy = (strips_of_runs((1, 12), noise=noise) for noise in (0.2, 2.0))
    assert kept(clean, rule)[0] == kept(noisy, other)[0] == 1
    assert rule.threshold < block_differences(*noisy[:2]).max() <= other.threshold


@pytest.mark.parametrize("noise", [0.0, 1.0, 2.0])
def test_one_letter_is_no_noise(noise):
    strips = strips_of_runs((1, 10), (2, 10), (1, 1), (2, 5), noise=noise)
    assert boundaries(scored(KnowingExecutor(), strips, "noise")) == [10, 20, 21]


def test_a_gap_of_one_frame_and_a_caption_of_one_frame_are_no_noise():
    strips = strips_of_runs((1, 10), (0, 1), (1, 10), (0, 5), (3, 1), (0, 5), noise=1.5)
    assert boundaries(scored(KnowingExecutor(), strips, "noise")) == [10, 11, 21, 26, 27]


def test_movement_everywhere_is_not_taken_for_noise():
    strips = [strip_with(0, moving_background(frame)) for frame in range(12)]
    rule = AlikeButForNoise()
    assert kept(strips, rule)[0] == 12
    assert rule.threshold == MOST_DIFFERENCE


@pytest.mark.parametrize("frames", [8, 60])
def test_a_fade_is_followed_however_slow(frames):
    strips = [strip_with(1, opacity=step / frames) for step in range(frames + 1)]
    count, numbers = kept(strips, AlikeButForNoise())
    assert count >= 8, "what stands for a frame never differs from it by much"
    stands = [strips[numbers.index(number)] for number in numbers]
    assert max(block_differences(*pair).max() for pair in zip(stands, strips, strict=True)) <= MOST_DIFFERENCE
    assert boundaries(scored(KnowingExecutor(), strips, "noise"))[0] == pytest.approx(frames / 2, abs=frames / 8)


def test_one_block_decides_and_not_the_mean_of_the_strip():
    one, other = strip_with(1), strip_with(2)
    assert np.abs(one.astype(float) - other).mean() < 1.5
    assert block_differences(one, other).max() > 2 * MOST_DIFFERENCE


@pytest.mark.parametrize(("option", "value"), [("skip", "some"), ("coarse", 0), ("coarse", 3), ("coarse", 32)])
def test_what_cannot_be_skipped_is_explained(option, value):
    with pytest.raises(UsageError, match=f"--{option} must be one of .* got {value}"):
        Skipping(**{option: value})
