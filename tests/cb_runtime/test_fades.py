"""Fades measured on strips whose captions were drawn with known opacity."""

from fractions import Fraction

import cv2
import numpy as np
import pytest

from cb_runtime.contract import Decoding
from cb_runtime.decoding import decode_spans
from cb_runtime.errors import ContractError
from cb_runtime.fades import REACH, StripProducts, find_fades
from cb_runtime.scoring import PairScores

HEIGHT, WIDTH = 48, 480


def text_masks(text):
    """Return how much white text and black outline cover each pixel."""
    masks = []
    for thickness in (3, 7):
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        cv2.putText(mask, text, (60, 36), cv2.FONT_HERSHEY_SIMPLEX, 1.1, 255, thickness, cv2.LINE_AA)
        masks.append(mask[..., None] / 255.0)
    return masks


ONE, OTHER = text_masks("Hello there, world"), text_masks("Another caption!")


def texture(seed, blur, gain):
    noise = np.random.default_rng(seed).integers(0, 256, (HEIGHT, 3000, 3), dtype=np.uint8)
    return np.clip((cv2.GaussianBlur(noise, (0, 0), blur).astype(float) - 128) * gain + 110, 0, 255)


COARSE, FINE = texture(0, 3.0, 5.0), texture(1, 1.5, 3.0)
BACKGROUNDS = {
    "plain": lambda frame: np.full((HEIGHT, WIDTH, 3), 90.0),
    "still texture": lambda frame: COARSE[:, :WIDTH],
    "panning texture": lambda frame: COARSE[:, 5 * frame : 5 * frame + WIDTH],
    "panning fine texture": lambda frame: FINE[:, 4 * frame : 4 * frame + WIDTH],
    "scene cuts far away": lambda frame: COARSE[:, frame // 70 * 900 :][:, :WIDTH],
}
STILL = {"plain", "still texture", "scene cuts far away"}


def scene_cut_at(cut):
    return lambda frame: COARSE[:, (0 if frame < cut else 900) :][:, :WIDTH]


def drawn(background, *layers):
    """Return a strip: a background with `(masks, opacity)` drawn over it."""
    picture = background
    for (inside, around), opacity in layers:
        picture = picture * (1 - opacity * around) + 255 * opacity * inside
    return np.clip(picture, 0, 255).astype(np.uint8)


def rising(first, partly, phase=0.0):
    """Return the opacity of a fade in with `partly` partly visible frames from `first` on."""
    return lambda frame: float(np.clip((frame - first + 1 - phase) / (partly + 1), 0, 1))


def falling(first, partly):
    return lambda frame: 1 - rising(first, partly)(frame)


def products_of(frames, background, *captions, noise=0.0):
    """Gather a video of captions `(masks, opacity of frame)`."""
    random = np.random.default_rng(0)
    products = StripProducts()
    for frame in range(frames):
        strip = drawn(background(frame), *((masks, opacity(frame)) for masks, opacity in captions))
        products.add(np.clip(strip + random.normal(0, noise, strip.shape), 0, 255).astype(np.uint8))
    return products


@pytest.mark.parametrize("partly", [2, 4, 8, 12, 20])
@pytest.mark.parametrize("background", BACKGROUNDS)
def test_a_fade_s_boundary_is_at_half_opacity(background, partly):
    captions = (ONE, lambda frame: rising(40, partly)(frame) * falling(100, partly)(frame))
    products = products_of(170, BACKGROUNDS[background], captions, noise=4.0)
    start, end = 40 + partly // 2, 100 + partly // 2
    slack, far = (0, partly // 2) if background in STILL else (3, 2)
    for miss in (0, -far, far):
        fades = find_fades([start + miss], [end + miss], products)
        found = [fades[start + miss], fades[end + miss]]
        off = np.abs([fade.frame - wanted for fade, wanted in zip(found, (start, end), strict=True)])
        assert off.max() <= (1 if slack and partly > 12 else 0)
        for fade, first in zip(found, (40, 100), strict=True):
            assert np.abs(np.subtract(fade.interval, (first, first + partly))).max() <= slack


@pytest.mark.parametrize("partly", [0, 1])
@pytest.mark.parametrize("background", BACKGROUNDS)
def test_a_cut_is_left_alone_also_with_one_mixed_frame(background, partly):
    captions = (ONE, lambda frame: rising(40, partly)(frame) * falling(100, partly)(frame))
    products = products_of(170, BACKGROUNDS[background], captions, noise=4.0)
    for miss in (-1, 0, 1):
        assert find_fades([40 + miss], [100 + miss], products) == {}


def test_a_long_fade_is_found():
    products = products_of(120, BACKGROUNDS["still texture"], (ONE, rising(40, 30)))
    (fade,) = find_fades([50], [], products).values()
    assert (fade.frame, fade.interval) == (55, (40, 70))


@pytest.mark.parametrize("partly", [3, 5])
def test_a_caption_starts_at_exactly_half_opacity_and_ends_below_it(partly):
    middle = partly // 2
    captions = (ONE, lambda frame: rising(40, partly)(frame) * falling(100, partly)(frame))
    fades = find_fades([40], [100], products_of(150, BACKGROUNDS["plain"], captions))
    assert captions[1](40 + middle) == captions[1](100 + middle) == 0.5
    assert fades[40].frame == 40 + middle
    assert fades[100].frame == 100 + middle + 1


@pytest.mark.parametrize("phase", [0.3, 0.7])
def test_a_fade_between_frame_times_starts_at_its_first_frame_of_half_opacity(phase):
    opacity = rising(40, 8, phase)
    (fade,) = find_fades([42], [], products_of(90, BACKGROUNDS["still texture"], (ONE, opacity))).values()
    assert fade.frame == next(frame for frame in range(90) if opacity(frame) >= 0.5)
    partly = [frame for frame in range(90) if 0 < opacity(frame) < 1]
    assert fade.interval == (partly[0], partly[-1] + 1)


@pytest.mark.parametrize("partly", [4, 10])
def test_a_cross_fade_between_captions_has_one_boundary_at_its_middle(partly):
    captions = (ONE, falling(60, partly)), (OTHER, rising(60, partly))
    products = products_of(120, BACKGROUNDS["still texture"], *captions)
    (fade,) = find_fades([0, 61], [61, 120], products).values()
    assert fade.frame == 60 + partly // 2
    assert np.abs(np.subtract(fade.interval, (60, 60 + partly))).max() <= 1


def test_fades_of_a_short_caption_do_not_take_each_other_for_the_background():
    captions = (ONE, lambda frame: rising(40, 4)(frame) * falling(52, 4)(frame))
    fades = find_fades([42], [54], products_of(90, BACKGROUNDS["still texture"], captions))
    assert {at: (fade.frame, fade.interval) for at, fade in fades.items()} == {42: (42, (40, 44)), 54: (54, (52, 56))}


def test_a_fade_soon_after_another_caption_is_found():
    captions = (OTHER, falling(35, 0)), (ONE, rising(38, 8))
    fades = find_fades([0, 42], [35, 90], products_of(90, BACKGROUNDS["still texture"], *captions))
    assert {at: (fade.frame, fade.interval) for at, fade in fades.items()} == {42: (42, (38, 46))}


def test_a_scene_cut_right_before_a_fade_leaves_the_boundary_alone_and_one_long_before_does_not():
    for cut, found in ((38, 0), (34, 1)):
        products = products_of(100, scene_cut_at(cut), (ONE, rising(40, 8)))
        assert len(find_fades([44], [], products)) == found


def test_a_scene_cut_in_the_middle_of_a_fade_leaves_the_boundary_alone():
    for partly in (1, 4, 8):
        assert find_fades([42], [], products_of(100, scene_cut_at(43), (ONE, rising(40, partly)))) == {}


@pytest.mark.parametrize("length", [10, 30])
def test_a_background_that_dissolves_around_a_cut_is_no_fade(length):
    share = rising(50 - length // 2, length)
    dissolving = lambda frame: (1 - share(frame)) * COARSE[:, :WIDTH] + share(frame) * COARSE[:, 900 : 900 + WIDTH]  # noqa: E731
    assert find_fades([50], [], products_of(100, dissolving, (ONE, rising(50, 0)))) == {}


def test_opacity_that_goes_up_and_down_is_no_fade():
    flashing = {40: 0.4, 41: 0.8, 42: 0.2, 43: 0.7, 44: 0.3}
    opacity = lambda frame: flashing.get(frame, float(frame > 44))  # noqa: E731
    assert find_fades([43], [], products_of(90, BACKGROUNDS["plain"], (ONE, opacity))) == {}


def test_where_nothing_appears_there_is_no_fade():
    products = products_of(90, BACKGROUNDS["plain"], noise=3.0)
    assert find_fades([40], [60], products) == {}


@pytest.mark.parametrize("frames", [1, 2, 3, 5])
def test_boundaries_near_the_video_s_ends_are_harmless(frames):
    products = products_of(frames, BACKGROUNDS["plain"], (ONE, rising(1, 2)))
    for boundary in range(frames + 1):
        assert find_fades([boundary], [frames], products) == {}


def test_moved_boundaries_never_cross():
    random = np.random.default_rng(2)
    products = products_of(300, BACKGROUNDS["panning texture"], (ONE, lambda frame: (frame % 19) / 18))
    for _ in range(50):
        boundaries = sorted(random.choice(np.arange(1, 300), 24, replace=False).tolist())
        fades = find_fades(boundaries[::2], boundaries[1::2], products)
        moved = [fades[at].frame if at in fades else at for at in boundaries]
        assert moved == sorted(set(moved))


def test_what_is_kept_of_a_frame_is_small_and_exact():
    products = StripProducts()
    strips = [drawn(BACKGROUNDS["panning texture"](frame), (ONE, frame % 2)) for frame in range(2 * REACH + 20)]
    for strip in strips:
        products.add(strip)
    first, stop = 15, 15 + 2 * REACH
    gram = products.gram(first, stop)
    assert len(products._products) == len(strips) * 2 * REACH
    assert (gram == gram.T).all()
    assert np.linalg.eigvalsh(gram).min() > -0.1, "products of real pictures"
    again = StripProducts()
    for strip in strips[first:stop]:
        again.add(strip)
    np.testing.assert_allclose(again.gram(0, 2 * REACH), gram, rtol=1e-5, atol=1e-3)


ROWS = {
    "empty_empty": [0.01, 0.01, 0.96, 0.01, 0.01],
    "empty_valid": [0.01, 0.01, 0.01, 0.96, 0.01],
    "unsure": [0.24, 0.01, 0.25, 0.49, 0.01],
    "same": [0.96, 0.01, 0.01, 0.01, 0.01],
}


def test_a_caption_s_start_moves_to_half_opacity_and_all_frames_of_the_fade_count_for_its_score():
    rows = np.array([ROWS["empty_empty"]] * 38 + [ROWS["unsure"]] * 4 + [ROWS["same"]] * 47, np.float32)
    scores = PairScores({1: rows}, {1: rows[:, [0, 1, 2, 4, 3]]})
    pts = [frame * 10 for frame in range(90)]
    products = products_of(90, BACKGROUNDS["still texture"], (ONE, rising(39, 8)))
    (plain,), (faded,) = (
        decode_spans(pts, [10] * 90, Fraction(1, 250), scores, Decoding(distances=(1,)), given)
        for given in (None, products)
    )
    assert plain.fade_in is plain.fade_in_pts is None
    assert plain.start_frame != 43
    assert (faded.start_frame, faded.start_pts) == (43, 430)
    assert (faded.fade_in, faded.fade_in_pts) == ((39, 47), (390, 470))
    assert plain.start_score < 0.7
    assert faded.start_score > 0.95
    assert faded.score == pytest.approx(faded.start_score * plain.score / plain.start_score)
    assert (faded.end_frame, faded.fade_out) == (90, None)


@pytest.mark.parametrize(("sure", "start"), [(0.9, 43), (0.995, 41)])
def test_a_change_that_the_model_sees_whole_between_two_frames_is_a_cut_whatever_looks_like_a_fade(sure, start):
    change = [(1 - sure) / 4] * 3 + [sure, (1 - sure) / 4]
    rows = np.array([ROWS["empty_empty"]] * 40 + [change] + [ROWS["same"]] * 48, np.float32)
    scores = PairScores({1: rows}, {1: rows[:, [0, 1, 2, 4, 3]]})
    products = products_of(90, BACKGROUNDS["still texture"], (ONE, rising(39, 8)))
    (span,) = decode_spans(range(90), [1] * 90, Fraction(1, 25), scores, Decoding(distances=(1,)), products)
    assert span.start_frame == start
    assert (span.fade_in is None) == (start == 41)


@pytest.mark.parametrize(("closer", "starts"), [({}, [0, 43]), ({41: -5.0}, [0]), ({41: 5.0}, [0, 41])])
def test_a_change_that_a_closer_look_found_is_where_it_looked(closer, starts):
    """Another caption's text fades in over it, so that the strips say it changes at frame 43."""
    different = [0.4, 0.57, 0.01, 0.01, 0.01]
    rows = np.array([ROWS["same"]] * 40 + [different] + [ROWS["same"]] * 48, np.float32)
    scores = PairScores({1: rows}, {1: rows})
    products = products_of(90, BACKGROUNDS["still texture"], (ONE, rising(39, 8)))
    decoding = Decoding(distances=(1,), change_penalty=0.0)
    spans = decode_spans(range(90), [1] * 90, Fraction(1, 25), scores, decoding, products, closer=closer)
    assert [span.start_frame for span in spans] == starts


def test_strips_of_another_number_than_frames_are_refused():
    rows = np.array([ROWS["same"]] * 8, np.float32)
    with pytest.raises(ContractError, match="9 frames need as many strips, got 8"):
        decode_spans(
            range(9),
            [1] * 9,
            Fraction(1, 25),
            PairScores({1: rows}, {1: rows}),
            Decoding(distances=(1,)),
            products_of(8, BACKGROUNDS["plain"]),
        )
