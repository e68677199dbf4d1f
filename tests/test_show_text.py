"""Texts whose words are coloured by their attribution."""

import re

import pytest
import torch

from xai_lib.show import show_text

WORDS = ["", "a", "dull", "but", "lovely", "film"]
VALUES = torch.tensor([9.0, 0.0, -2.0, 0.5, 4.0, 1.0])


def grounds(html):
    return re.findall(r"background-color: rgba\((\d+), .*?, ([\d.]+)\).*?>(.*?)<", html)


def test_the_sign_is_the_colour_and_the_size_its_strength():
    found = grounds(show_text(WORDS, {"gradient": VALUES * (VALUES < 9)}).data)
    assert [word for *_, word in found] == WORDS[1:]  # padding is left out
    strength = {word: float(opacity) for _, opacity, word in found}
    assert strength["a"] == 0 and strength["lovely"] == pytest.approx(0.75, abs=0.02)
    assert strength["dull"] == pytest.approx(strength["lovely"] / 2, abs=0.02)
    reds = {word for red, opacity, word in found if int(red) > 100 and opacity > "0.00"}
    assert reds == {"but", "lovely", "film"}


def test_each_map_has_its_label_and_its_own_scale():
    html = show_text(WORDS, {"deeplift": VALUES, "mine": 1000 * VALUES}).data
    assert "DeepLIFT" in html and "mine" in html
    first, second = html.split("</figure>")[:2]
    assert [g[1] for g in grounds(first)] == [g[1] for g in grounds(second)]
    assert "title='-2e+03'" in second


def test_a_text_without_attribution_is_blank():
    assert {g[1] for g in grounds(show_text(WORDS, {"none": 0 * VALUES}).data)} == {
        "0.00"
    }


def test_too_few_values_are_refused():
    with pytest.raises(ValueError, match="gradient must have a value per word, 6, got"):
        show_text(WORDS, {"gradient": VALUES[:5]})
