"""Saving, loading, tabulating and showing a `TokenAttribution`."""

from __future__ import annotations

import numpy as np
import pytest

from lightning_attnflow import explain, plots, valuation  # noqa: F401 - all result classes
from lightning_attnflow._results import SavedResult
from lightning_attnflow.attribution import TokenAttribution
from lightning_attnflow.errors import InputError

TEXT = "A greatly fine film, not bad!"


@pytest.mark.parametrize(
    ("method", "options"),
    [("flow", {"layer": 3}), ("shapley", {"budget": 200}), ("rollout", {}), ("exact_shapley", {"players": "words"})],
)
def test_a_saved_attribution_is_loaded_unchanged(encoder, tokenizer, tmp_path, method, options):
    result = explain(encoder, tokenizer, TEXT, method=method, **options)
    path = result.save(tmp_path / "result")
    loaded = TokenAttribution.load(path)
    assert path.suffix == ".npz"
    for name, value in vars(result).items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(getattr(loaded, name), value)
        else:
            assert getattr(loaded, name) == value


def test_load_rejects_other_results(tmp_path):
    path = tmp_path / "values.npz"
    np.savez(path, values=np.zeros(3))
    with pytest.raises(InputError, match="expected a TokenAttribution of version 1"):
        TokenAttribution.load(path)


def test_to_pandas_has_one_row_per_player(encoder, tokenizer):
    frame = explain(encoder, tokenizer, TEXT, method="shapley", budget=200).to_pandas()
    assert list(frame.columns) == ["token", "is_special", "values", "stderr", "low", "high"]
    assert list(frame["token"])[:3] == ["A", "great", "##ly"]


def test_plot_draws_the_players_in_the_order_of_the_text(encoder, tokenizer):
    result = explain(encoder, tokenizer, TEXT, method="rollout")
    axes = result.plot()
    assert [label.get_text() for label in axes.get_yticklabels()] == list(result.tokens)
    assert result.plot(ax=axes) is axes


def test_to_html_writes_one_escaped_page(tmp_path):
    attribution = TokenAttribution(("<b>", "é $x"), np.array([0.5, -0.1]), "x", ((1,), (2,)), text="<b> é $x")
    page = attribution.to_html(tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<title>&lt;b&gt; é $x</title>" in page
    assert page.count("<b>") == 0
    assert "\\u003cb> é $x" in page


def every_result_class(base=SavedResult):
    for one in base.__subclasses__():
        yield one
        yield from every_result_class(one)


@pytest.mark.parametrize("kind", list(every_result_class()))
def test_results_have_the_short_repr(kind):
    assert kind.__repr__ is SavedResult.__repr__


def test_repr_shows_long_arrays_by_their_shape():
    attribution = TokenAttribution(tuple("abc"), np.array([0.5, -0.123456, 0]), "shapley", ((1,), (2,), (3,)))
    assert "tokens=('a', 'b', 'c'), values=[ 0.5   , -0.1235,  0.    ], method='shapley'" in repr(attribution)
    long = TokenAttribution(tuple("ab" * 100), np.zeros(200), "shapley", tuple((i,) for i in range(200)))
    assert "tokens=<200 items>, values=<float64 (200,)>, method='shapley'" in repr(long)


@pytest.mark.parametrize("path", [None, 3, ["a"], b"a"])
def test_what_is_no_path_is_refused(path):
    attribution = TokenAttribution(("a", "b"), np.array([1.0, 2.0]), "x", ((1,), (2,)))
    for write in (attribution.save, attribution.to_html, TokenAttribution.load):
        with pytest.raises(InputError, match=r"path: got .*; expected a path"):
            write(path)
