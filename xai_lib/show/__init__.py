"""What a reader looks at: plots in one house style, sliders without a kernel, widgets.

Nothing is computed here: every number drawn was computed in a room below.
"""

from xai_lib.show.boxes import box_panels
from xai_lib.show.frames import Frames
from xai_lib.show.grid_pictures import agg_att_figure, show_grid
from xai_lib.show.intervals import interval_plot
from xai_lib.show.maps import show_maps
from xai_lib.show.matrix import matrix_panels
from xai_lib.show.panels import curve_panels, dot_panels
from xai_lib.show.pictures import spectrum_image
from xai_lib.show.plots import curve_plot, spectra_plot
from xai_lib.show.report import report
from xai_lib.show.scatter import scatter_panels
from xai_lib.show.sortable import sortable_table
from xai_lib.show.source import source, table
from xai_lib.show.style import (
    ABSOLUTE,
    SIGNED,
    method_colour,
    method_label,
    signed_norm,
    use_style,
)
from xai_lib.show.text import show_text
from xai_lib.show.widgets import explore
from xai_lib.show.wiring import wiring

__all__ = [
    "ABSOLUTE",
    "SIGNED",
    "Frames",
    "agg_att_figure",
    "box_panels",
    "curve_panels",
    "curve_plot",
    "dot_panels",
    "explore",
    "interval_plot",
    "matrix_panels",
    "method_colour",
    "method_label",
    "report",
    "scatter_panels",
    "show_grid",
    "show_maps",
    "show_text",
    "signed_norm",
    "sortable_table",
    "source",
    "spectra_plot",
    "spectrum_image",
    "table",
    "use_style",
    "wiring",
]
