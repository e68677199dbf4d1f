"""The printed source is the library's, without a long docstring."""

import pytest

from xai_lib.analyse import low_pass
from xai_lib.attribute.backprop.rules import deconv
from xai_lib.show import source, table


def undocumented(a, b):
    return a - b


def test_source_keeps_everything_but_the_docstring():
    lines = source(low_pass).data.splitlines()
    assert lines[0] == "```python" and lines[-1] == "```"
    assert lines[1].startswith("def low_pass(maps: Tensor, cutoff: float")
    assert not any("Parameters" in line or '"""' in line for line in lines)
    namespace = {}
    exec("\n".join(source(undocumented).data.splitlines()[1:-1]), namespace)
    assert namespace["undocumented"](5, 3) == 2


def test_source_keeps_a_docstring_without_a_list_of_parameters():
    assert "R_in = max(R, 0)" in source(deconv).data


def test_source_of_no_python_function():
    with pytest.raises(TypeError, match="written in Python, got a int"):
        source(3)


def test_a_table_of_anything():
    shown = table(("a", "b"), (1, 0.5), ("x", None)).data.splitlines()
    assert shown == ["| a | b |", "| --- | --- |", "| 1 | 0.5 |", "| x | None |"]


def test_rows_of_two_lengths_are_no_table():
    with pytest.raises(ValueError, match=r"one length, got \[1, 2\]"):
        table(("a", "b"), (1,))
