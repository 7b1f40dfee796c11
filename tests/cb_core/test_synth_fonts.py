import pytest

from cb_core.synth import fonts
from cb_core.synth.fonts import FontFace, built_in_face, covers, faces_for, find_fonts, glyph_distance, has_glyph
from cb_core.synth.languages import LANGUAGES
from cb_core.synth.style import writable_languages
from cb_runtime.errors import InputError

LANGUAGE = {language.name: language for language in LANGUAGES}


def test_there_is_always_a_font_that_writes_english():
    assert faces_for(LANGUAGE["english"], find_fonts())


def test_a_font_is_not_used_for_letters_it_lacks():
    face = built_in_face()
    assert covers(face, "abcABC")
    assert not covers(face, "abc我们")
    assert not has_glyph(face, "我")
    assert LANGUAGE["chinese"] not in writable_languages((face,))


def test_a_font_that_draws_all_characters_alike_covers_nothing(monkeypatch):
    monkeypatch.setattr(
        fonts, "glyph", lambda face, character: b"\x01\x01\x00" if ord(character) > 0xFFFF else b"\x01\x01\xff"
    )
    assert not covers(FontFace("Placeholders", "Regular"), "abcdefgh")


def test_scripts_whose_letters_join_are_left_out_when_pillow_cannot_shape(monkeypatch):
    monkeypatch.setattr(fonts.features, "check", lambda feature: False)
    assert faces_for(LANGUAGE["arabic"], find_fonts()) == ()


def test_a_missing_font_folder_is_named(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        find_fonts(tmp_path / "none")


def test_a_folder_without_a_usable_font_is_refused(tmp_path):
    (tmp_path / "broken.ttf").write_bytes(b"not a font")
    with pytest.raises(InputError, match="No usable font"):
        find_fonts(tmp_path)


def test_fonts_that_can_write_no_language_are_refused():
    with pytest.raises(InputError, match="None of the fonts"):
        writable_languages(())


def test_different_letters_look_different_and_equal_ones_do_not():
    face = built_in_face()
    assert glyph_distance(face, "o", "o") == 0.0
    assert glyph_distance(face, "i", "m") > 0.3
    assert glyph_distance(face, " ", " ") == 0.0


def test_words_of_every_language_are_written_with_its_letters():
    for language in LANGUAGES:
        assert len(language.words) > 30
        assert set("".join(language.words)) <= set(language.letters)
