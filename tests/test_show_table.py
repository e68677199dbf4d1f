"""The table that sorts and filters, read as a page would read it."""

import html.parser
import json
import math

import numpy as np
import pytest
import torch

from xai_lib.attribute import METHODS, NEED_PATTERNS
from xai_lib.show import method_label, sortable_table

NASTY = "</script><b>\"x\" & 'y'</b>"


class Page(html.parser.HTMLParser):
    """Collect a table's cells as (text, small print, what it sorts by), by row."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.rows, self.part = [], [], None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append((tag, attrs))
        if tag == "tr":
            self.rows.append([])
        elif tag in ("th", "td"):
            self.rows[-1].append(["", "", attrs.get("data-sort")])
            self.part = 0
        elif tag == "small":
            self.part = 1

    def handle_endtag(self, tag):
        if tag in ("th", "td"):
            self.part = None

    def handle_data(self, data):
        if self.part is not None:
            self.rows[-1][-1][self.part] += data

    def all(self, name):
        return [attrs for tag, attrs in self.tags if tag == name]

    def column(self, head, part=0):
        place = [cell[0] for cell in self.rows[0]].index(head)
        return [row[place][part] for row in self.rows[1:]]


def page(rows, *args, **kwargs):
    return Page(sortable_table(rows, *args, **kwargs).data)


def values(*cells, **kwargs):
    """Return a table of one column of cells beside their places."""
    rows = [{"place": i, "cell": cell} for i, cell in enumerate(cells)]
    return page(rows, ["place", "cell"], **kwargs)


def test_numbers_are_printed_by_their_column_and_sorted_by_value():
    cells = [0.126, 0.1251, -1e-9, -0.5, 1, float("inf"), -math.inf]
    shown = values(*cells, fmt={"cell": "{:.2f}"})
    printed = ["0.13", "0.13", "0.00", "−0.50", "1.00", "inf", "−inf"]
    assert shown.column("cell") == printed
    ranks = [int(key) for key in shown.column("cell", 2)]
    assert np.argsort(ranks).tolist() == np.argsort(cells).tolist()


def test_a_format_may_be_a_function_and_whole_numbers_stay_whole():
    rows = [{"method": "rise", "images": 70, "mean": 0.5, "ratio": 0.256}]
    fmt = {"method": method_label, "ratio": "{:.0%}"}
    (row,) = page(rows, fmt=fmt).rows[1:]
    assert [cell[0] for cell in row] == ["RISE", "70", "0.50", "26%"]
    assert values(-0.001, fmt={"cell": "{:.0%}"}).column("cell") == ["0%"]
    assert values(-0.051, fmt={"cell": "{:.1f} s"}).column("cell") == ["−0.1 s"]


def test_numbers_of_numpy_and_torch_are_numbers():
    cells = [np.float32(0.5), np.int64(3), torch.tensor(2.0), np.array(-1.0)]
    shown = values(*cells)
    assert shown.column("cell") == ["0.50", "3", "2.00", "−1.00"]
    assert shown.column("cell", 2) == ["1", "3", "2", "0"]


def test_what_is_missing_is_a_dash_that_sorts_last():
    shown = values(0.5, None, float("nan"), "", np.nan, "refused", (None, "no ReLU"))
    assert shown.column("cell") == ["0.50", "–", "–", "–", "–", "refused", "–"]
    assert shown.column("cell", 2) == ["0", "", "", "", "", "", ""]
    assert shown.column("cell", 1)[-1] == "no ReLU"
    words = page([{"a": "x", "b": "word"}, {"a": "y"}], ["a", "b"])
    assert words.column("b") == ["word", "–"]
    assert words.column("b", 2) == [None, ""]


def test_a_pair_has_its_text_in_small_print():
    shown = values((0.25, "0.2 to 0.3"), ("word", "a <note>"))
    assert shown.column("cell") == ["0.25", "word"]
    assert shown.column("cell", 1) == ["0.2 to 0.3", "a <note>"]


def test_columns_choose_order_and_name_and_the_first_heads_its_row():
    rows = [{"a": 1, "b": "one", "c": 0}, {"a": 2, "b": "two", "c": 0}]
    shown = page(rows, {"b": "Word", "a": "Number"})
    assert [cell[0] for cell in shown.rows[0]] == ["Word", "Number"]
    assert shown.column("Word") == ["one", "two"] and shown.column("Number") == list(
        "12"
    )
    scopes = [attrs["scope"] for attrs in shown.all("th")]
    assert scopes == ["col", "col", "row", "row"]
    assert [cell[0] for cell in page(rows).rows[0]] == ["a", "b", "c"]


def filters_of(shown):
    (table,) = shown.all("table")
    return json.loads(table["data-filters"])


def test_a_filter_names_its_head_and_starts_as_printed():
    rows = [{"method": "rise", "net": "a"}, {"method": "gradient", "net": None}]
    columns = {"method": "Method", "net": "Network"}
    fmt = {"method": method_label}
    start = {"net": "a", "method": "rise"}
    shown = page(rows, columns, fmt=fmt, filters=start, noun="results")
    assert filters_of(shown) == {"Network": "a", "Method": "RISE"}
    assert shown.all("table")[0]["data-noun"] == "results"
    assert filters_of(page(rows, columns, filters=["net"])) == {"Network": ""}
    assert filters_of(page(rows, columns, filters={"net": None})) == {"Network": ""}
    assert filters_of(page(rows)) == {}


def test_nothing_escapes_and_nothing_is_fetched():
    rows = [{NASTY: NASTY, "b": (1.0, NASTY)}, {NASTY: (NASTY, NASTY), "b": 2.0}]
    shown = sortable_table(rows, filters={NASTY: NASTY}, noun=NASTY, caption=NASTY)
    read = Page(shown.data)
    assert read.all("b") == [] and len(read.all("script")) == 1
    assert read.column(NASTY) == [NASTY, NASTY]
    assert read.column("b", 1) == [NASTY, ""]
    assert filters_of(read) == {NASTY: NASTY}
    assert read.all("table")[0]["data-noun"] == NASTY
    assert read.all("div")[0]["aria-label"] == NASTY
    assert "http" not in shown.data and " id=" not in shown.data


def test_a_caption_stands_below_and_the_height_bounds_the_box():
    shown = page([{"a": 1}], caption="What it says", height="12.5rem")
    assert len(shown.all("figcaption")) == 1
    assert shown.all("div")[0]["style"].startswith("max-height:12.5rem")
    assert page([{"a": 1}]).all("figcaption") == []


def test_every_method_on_eight_networks_fits_a_page():
    names = [*METHODS, *NEED_PATTERNS]
    numbers = {f"metric {i}": (i - 3) / 7 for i in range(7)}
    rows = [
        {"method": name, "network": f"network {k}", **numbers, "metric 0": i + k / 8}
        for k in range(8)
        for i, name in enumerate(names)
    ]
    shown = sortable_table(rows, fmt={"method": method_label}, filters=["network"])
    assert len(rows) >= 272 and len(shown.data.encode()) < 300 * len(rows)


@pytest.mark.parametrize(
    ("error", "message", "kwargs"),
    [
        (ValueError, "rows must be at least one dict, got none", {"rows": []}),
        (TypeError, "rows must be dicts, got list", {"rows": [[1]]}),
        (ValueError, "columns must be one of a, b, got 'c'", {"columns": ["a", "c"]}),
        (ValueError, "heads that differ, got x, x", {"columns": {"a": "x", "b": "x"}}),
        (ValueError, "heads that differ, got none", {"columns": []}),
        (ValueError, "filters must be one of a, b, got 'c'", {"filters": ["c"]}),
        (ValueError, "fmt must be one of a, b, got 'c'", {"fmt": {"c": "{}"}}),
        (ValueError, "start b at one of x, y, got 'z'", {"filters": {"b": "z"}}),
        (ValueError, "height must be a CSS length .* got 'red'", {"height": "red"}),
        (ValueError, "height must be .* got '1px;x'", {"height": "1px;x"}),
    ],
)
def test_bad_input_gets_one_clear_line(error, message, kwargs):
    given = {"rows": [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]} | kwargs
    with pytest.raises(error, match=message) as caught:
        sortable_table(**given)
    assert "\n" not in str(caught.value)
