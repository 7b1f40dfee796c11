"""Promises about which frames are looked at, and about what is told of text that was not taken for captions."""

import threading
from dataclasses import replace

import pytest
from fake_text import HEIGHT, LINE, LOGO, WIDTH, WIDTHS, EvenSource, FakeDetector, contains, detected, line
from surviving_threads import no_thread_survives  # noqa: F401  (checks every test here)

from cb_runtime.errors import ModelError
from cb_runtime.geometry import Box
from cb_runtime.layout import DEFAULT_SAMPLES, CaptionLayout, detect_layout
from cb_runtime.layout.detection import MORE
from cb_runtime.layout.overlays import without_overlays
from cb_runtime.pipeline import Pipeline

FRAMES = 6 * DEFAULT_SAMPLES


def film(shown):
    """Return what each frame of a film shows; `shown` maps ranges of frames to boxes."""
    return [[box for frames, box in shown.items() if number in frames] for number in range(FRAMES)]


def looked_at(seen):
    """Return the layout of a film, and the detector that was asked for it."""
    detector = FakeDetector(seen)
    return detect_layout(EvenSource(len(seen)), detector=detector), detector


class TestFramesLookedAt:
    def test_are_no_more_than_the_first_round_when_it_shows_many_captions(self):
        layout, detector = looked_at(film({range(n * 12, n * 12 + 10): line(width) for n, width in enumerate(WIDTHS)}))
        assert len(detector.asked) == layout.samples == DEFAULT_SAMPLES
        assert contains(layout.region, [line(width) for width in WIDTHS], margin=2)

    def test_are_no_more_when_few_captions_were_all_seen_several_times(self):
        _, detector = looked_at(film({range(36): line(300), range(36, 72): line(520)}))
        assert len(detector.asked) == DEFAULT_SAMPLES

    def test_are_more_when_few_captions_were_seen_and_find_those_in_between(self):
        first = {DEFAULT_SAMPLES * 0 + 3: line(300)}
        between = {1: line(520), 31: line(180), 37: line(410), 43: line(600, bottom=612), 67: line(700)}
        seen = film({range(frame, frame + 1): box for frame, box in (first | between).items()})
        layout, detector = looked_at(seen)
        assert DEFAULT_SAMPLES < len(detector.asked) <= MORE * DEFAULT_SAMPLES
        assert contains(layout.region, [*first.values(), *between.values()], margin=2)

    def test_are_never_looked_at_twice_nor_more_than_thrice_as_many(self):
        layout, detector = looked_at(film({}))
        assert layout is None
        assert len(set(detector.asked)) == len(detector.asked) == MORE * DEFAULT_SAMPLES

    def test_are_no_longer_asked_for_once_the_further_ones_settle_it(self):
        captions = {range(1 + 6 * n, 2 + 6 * n): line(width) for n, width in enumerate(WIDTHS)}
        _, detector = looked_at(film(captions))
        assert DEFAULT_SAMPLES < len(detector.asked) < MORE * DEFAULT_SAMPLES

    def test_boxes_are_kept_in_time_order(self):
        seen = film({range(1, 2): line(520), range(3, 4): line(300)})
        layout, _ = looked_at(seen)
        assert layout.boxes == (line(520), line(300))


def test_captions_at_a_second_place_are_told_of_with_the_way_to_read_them():
    low, high = [line(width) for width in WIDTHS], [line(width, bottom=90) for width in WIDTHS[:4]]
    layout = detected([*[[box] for box in low], *[[box] for box in high]])
    assert contains(layout.region, low)
    (other,) = layout.other_regions
    assert contains(other.region, high)
    assert 0.5 <= other.score < 1
    assert other.reason == "different texts seen there: 4, in the region chosen: 6"
    (doubt,) = layout.doubts()
    assert f"--region {','.join(map(str, other.region.as_tuple()))}" in doubt


def test_two_captions_at_once_are_two_regions():
    layout = detected([[line(width), line(width + 60, bottom=90)] for width in WIDTHS])
    assert len(layout.other_regions) == len(layout.doubts()) == 1
    assert layout.region.top > HEIGHT / 2 > layout.other_regions[0].region.bottom


@pytest.mark.parametrize(("height", "origin", "told"), [(0.3, "ocr", 0), (0.5, "ocr", 1), (0.5, "region", 0)])
def test_a_region_that_holds_more_than_captions_is_told(height, origin, told):
    region = Box(0, 0, WIDTH, round(height * HEIGHT))
    doubts = CaptionLayout(WIDTH, HEIGHT, region, "center", origin=origin).doubts()
    assert len(doubts) == told
    assert all("takes 50% of the frame's height" in doubt and "--region" in doubt for doubt in doubts)


def test_a_logo_a_ticker_and_a_title_are_told_of_and_raise_no_doubt():
    title, ticker = Box(400, 330, 880, 390), Box(0, 672, WIDTH, 712)
    layout = detected([[LOGO, title, ticker, line(width, bottom=650)] for width in WIDTHS])
    reasons = {other.region.as_tuple(): other for other in layout.other_regions}
    assert reasons[LOGO.as_tuple()].reason == "a small text that stays near a corner, as logos and clocks do"
    assert reasons[ticker.as_tuple()].reason == "text reaches the frame's left or right edge, as tickers do"
    assert (reasons[LOGO.as_tuple()].score, reasons[ticker.as_tuple()].score) == (0, 0)
    (other,) = [other for other in layout.other_regions if contains(other.region, [title])]
    assert other.reason == "the text there is the same in 6 sampled frames"
    assert 0 < other.score < 0.5
    assert layout.doubts() == ()


def test_regions_do_not_overlap():
    scene = [Box(100 + 90 * n, 80 + 61 * n, 300 + 97 * n, 110 + 70 * n) for n in range(6)]
    layout = detected([[scene[n], line(width)] for n, width in enumerate(WIDTHS)])
    regions = [layout.region, *(other.region for other in layout.other_regions)]
    assert all(
        one.bottom <= other.top or other.bottom <= one.top or one.right <= other.left or other.right <= one.left
        for place, one in enumerate(regions)
        for other in regions[:place]
    )


def test_a_title_that_never_changes_does_not_outweigh_two_captions():
    title = Box(300, 80, 980, 130)
    seen = [[title] for _ in range(12)]
    seen[3], seen[8] = [title, line(300)], [title, line(420)]
    assert contains(detected(seen).region, [line(300), line(420)], margin=2)


def test_scene_text_that_pans_through_the_frame_is_no_caption():
    sign = [Box(150 + 160 * n, 500, 330 + 160 * n, 540) for n in range(5)]
    assert detected([[place] for place in sign]) is None
    captions = [line(width) for width in WIDTHS[:5]]
    layout = detected([[place, caption] for place, caption in zip(sign, captions, strict=True)])
    assert contains(layout.region, captions, margin=2)
    assert layout.region.top > 540


def test_a_logo_beside_captions_is_not_taken_into_their_line():
    logo = Box(20, 620, 180, 660)
    captions = {n: line(840) for n in (2, 5, 8)} | {n: line(500) for n in (3, 6)}
    layout = detected([[logo, *([captions[n]] if n in captions else [])] for n in range(12)])
    assert layout.anchor == "center"
    assert abs(layout.region.left + layout.region.right - WIDTH) <= 2
    assert [other.region for other in layout.other_regions] == [logo]


def test_a_texture_taken_for_a_page_of_text_hides_no_caption():
    texture = [Box(0, top, WIDTH - 3 * top // 40, top + 60) for top in range(0, 650, 62)]
    captions = [line(width) for width in WIDTHS]
    layout = detected([texture, texture, texture, *[[caption] for caption in captions]])
    assert contains(layout.region, captions, margin=2)
    assert layout.region.height <= 1.5 * LINE


def test_captions_under_pages_of_text_are_found_when_nothing_else_is_seen():
    page = [Box(100 + 13 * (row % 4), 30 + 58 * row, 1100 - 57 * (row % 3), 70 + 58 * row) for row in range(9)]
    layout = detected([[*page, line(width, bottom=690)] for width in WIDTHS])
    assert contains(layout.region, [line(width, bottom=690) for width in WIDTHS], margin=2)


def test_the_upper_line_found_without_its_lower_one_is_inside():
    upper = line(700, bottom=612)
    layout = detected([[line(300)], [line(420)], [upper], [upper], []])
    assert contains(layout.region, [upper, line(300)], margin=2)


def test_a_square_shape_above_a_caption_does_not_make_the_region_tall():
    shape = Box(610, 550, 675, 615)
    layout = detected([[line(width)] for width in WIDTHS] + [[shape, line(440)]])
    assert layout.region.height <= 1.5 * LINE


def test_a_shape_above_the_start_of_a_caption_does_not_make_the_region_tall_however_often_it_is_seen():
    below = line(440)
    shape = Box(below.left, below.top - LINE - 4, below.left + LINE, below.top - 4)
    layout = detected([[line(width)] for width in WIDTHS] + [[shape, below], [shape, below]])
    assert layout.region.height <= 1.5 * LINE


def test_scene_text_above_two_lines_with_a_side_in_line_with_one_of_them_does_not_make_the_region_tall():
    upper, lower = line(840, bottom=612), line(600)
    sign = Box(lower.right - 260, upper.top - 2 * LINE, lower.right + 8, upper.top - LINE // 2)
    layout = detected([[line(width, bottom=612), line(width + 60)] for width in WIDTHS] + [[sign, upper, lower], []])
    assert contains(layout.region, [upper, lower], margin=2)
    assert layout.region.top > sign.bottom


def test_lines_of_a_dialogue_that_begin_together_are_inside():
    first, second = line(700, bottom=612), line(700)
    short = Box(second.left, second.top, second.left + 180, second.bottom)
    layout = detected([[line(width, bottom=612)] for width in WIDTHS] + [[first, short], [first, short]])
    assert contains(layout.region, [first, short], margin=2)


def test_a_short_upper_line_is_inside_where_another_is_seen_at_its_height():
    below = line(440)
    short = Box(below.left, below.top - LINE - 4, below.left + LINE, below.top - 4)
    upper = Box(line(600).left, short.top, line(600).right, short.bottom)
    layout = detected([[line(width)] for width in WIDTHS] + [[short, below], [upper, line(500)]])
    assert contains(layout.region, [short, upper, below], margin=2)


def test_a_shape_far_beside_captions_does_not_make_the_region_wide():
    captions = [line(width) for width in (300, 420, 260, 380)]
    shape = Box(1150, captions[0].top - 4, 1200, captions[0].bottom + 4)
    layout = detected([[caption] for caption in captions] + [[shape], []])
    assert contains(layout.region, captions, margin=2)
    assert layout.region.right < shape.left


@pytest.mark.parametrize("overlay", [LOGO, Box(0, 672, WIDTH, 712)])
def test_only_a_logo_or_only_a_ticker_gives_no_layout(overlay):
    assert detected([[overlay]] * 12) is None


class TestWhileAFrameIsLookedAt:
    def test_the_next_is_decoded(self):
        second = threading.Event()

        class Source(EvenSource):
            def sample(self, count):
                for number, frame in enumerate(super().sample(count)):
                    if number == 1:
                        second.set()
                    yield frame

        class Detector(FakeDetector):
            def __call__(self, image):
                assert second.wait(10)
                return super().__call__(image)

        detect_layout(Source(FRAMES), detector=Detector(film({})), pipeline=Pipeline(overlapped=True))

    @pytest.mark.parametrize("overlapped", [True, False])
    def test_a_failure_ends_both(self, overlapped):
        def detector(image):
            raise ModelError("out of memory")

        with pytest.raises(ModelError, match="out of memory"):
            detect_layout(EvenSource(FRAMES), detector=detector, pipeline=Pipeline(overlapped=overlapped))


def test_captions_of_upright_video_are_found():
    upright = replace(EvenSource.info, width=720, height=1280)
    boxes = [Box(360 - width // 2, 900, 360 + width // 2, 940) for width in (300, 520, 180, 600, 410, 90)]
    logo = Box(600, 40, 690, 80)
    detector = FakeDetector([[logo, boxes[number // 12]] for number in range(FRAMES)])
    source = EvenSource(FRAMES)
    source.info = upright
    layout = detect_layout(source, detector=detector)
    assert contains(layout.region, boxes, margin=2)
    assert (layout.anchor, layout.region.height <= 1.5 * LINE) == ("center", True)


@pytest.mark.parametrize(
    "seen",
    [
        [[Box(480, 376, 584, 486)], [Box(494, 384, 570, 472)]],
        [[Box(136, 230, 220, 266)], [Box(138, 310, 222, 344)]],
        [[Box(300, 260, 800, 400)]],
    ],
    ids=["a package held up", "a small logo that moves", "hair"],
)
def test_a_word_or_two_in_the_middle_of_the_frame_are_no_captions(seen):
    assert detected([*seen, *[[]] * 20]) is None


def test_a_word_in_the_middle_that_stays_may_be_a_caption():
    word = Box(540, 340, 740, 380)
    assert contains(detected([*[[]] * 6, *[[word]] * 6]).region, [word], margin=2)


def wandering(samples, beside=()):
    """Return samples with a logo that bounces through the frame, of a width that OCR is not quite sure of."""
    seen = []
    for number in range(samples):
        left, top = 53 * number % (WIDTH - 100), 41 * number % (HEIGHT - 40)
        seen.append([Box(left, top, left + 80 + number % 3, top + 30 + number % 2), *beside])
    return seen


def test_a_logo_that_moves_through_the_frame_gives_no_layout():
    assert detected(wandering(36)) is None


def test_a_logo_that_moves_is_told_of_and_no_part_of_the_captions_region():
    layout = detected([[*logo, line(width)] for logo, width in zip(wandering(12), WIDTHS * 2, strict=False)])
    assert contains(layout.region, [line(width) for width in WIDTHS], margin=2)
    assert layout.region.height <= 1.5 * LINE
    assert "a small text of one size that moves through the frame, as logos do" in {
        other.reason for other in layout.other_regions
    }


def test_words_of_one_size_in_captions_at_a_few_heights_do_not_move():
    words = [[Box(560 + 9 * number, top, 640 + 9 * number, top + 30)] for number, top in enumerate((600, 640, 80) * 4)]
    kept, _ = without_overlays(words, WIDTH, HEIGHT)
    assert kept == words


def test_one_short_caption_is_enough():
    assert contains(detected([[], [line(160)], [], []]).region, [line(160)], margin=2)
