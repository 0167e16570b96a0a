"""HTML page of coloured sentences: values, escaping, colour scales."""

from __future__ import annotations

from html.parser import HTMLParser

import numpy as np
import pytest

from lightning_attnflow.attribution import TokenAttribution
from lightning_attnflow.errors import InputError
from lightning_attnflow.plots import tokens_html


def attribution(tokens=("<script>", "fine", "film"), values=(0.5, -0.25, 0.0), method="leave_one_out"):
    special = np.array([token.startswith("[") for token in tokens])
    return TokenAttribution(tokens, np.array(values), method, tuple((i,) for i in range(len(tokens))), special)


class _Page(HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.tags, self.titles, self.texts = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.titles += [value for key, value in attributes if tag == "span" and key == "title"]

    def handle_data(self, data):
        self.texts.append(data)


def test_pages_contain_all_values_and_escape_all_text():
    page = _Page(tokens_html([attribution(), attribution(method="flow")], title="<img src=x onerror=alert(1)>"))
    assert page.titles == ["+0.5000", "-0.2500", "+0.0000"] * 2
    assert page.texts.count("<script>") == 2
    assert not {"script", "img", "link", "iframe"} & set(page.tags)


def test_rows_have_separate_colour_scales_unless_shared():
    small, large = attribution(values=(0.1, 0.0, 0.0)), attribution(values=(1.0, 0.0, 0.0))
    assert tokens_html([small, large]).count(",1.00)") == 2
    assert tokens_html([small, large], shared_scale=True).count(",1.00)") == 1
    assert ",0.10)" in tokens_html([small, large], shared_scale=True)


def test_special_tokens_have_a_frame():
    assert tokens_html(attribution(tokens=("[CLS]", "fine", "film"))).count("1px dashed") == 1


def test_to_html_writes_utf8(tmp_path):
    path = attribution(tokens=("naïve", "film", "…")).to_html(tmp_path / "page.html")
    assert "naïve" in path.read_text(encoding="utf-8")


def test_empty_pages_raise_an_input_error():
    with pytest.raises(InputError, match="at least one"):
        tokens_html([])


@pytest.mark.parametrize("wrong", [None, 3, "text", [attribution(), "text"], np.ones(2)])
def test_pages_of_something_else_are_refused(wrong):
    with pytest.raises(InputError, match=r"attributions: got .*; expected a TokenAttribution. explain\(\) makes one"):
        tokens_html(wrong)
    with pytest.raises(InputError, match="title: got int"):
        tokens_html(attribution(), title=3)
    with pytest.raises(InputError, match="shared_scale: got 1"):
        tokens_html(attribution(), shared_scale=1)
