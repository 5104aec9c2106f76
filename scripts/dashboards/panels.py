"""The kinds of panel that the dashboards are made of, in Grafana's own types.

Every expression asks for `namespace=~"$namespace"`, so that several installations in one Prometheus are told
apart, and takes its rates over `$__rate_interval`, which Grafana makes four scrapes long at least.
"""

from typing import Any, Final, NamedTuple

from grafana_foundation_sdk.builders import common, heatmap, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.models import common as kinds
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat, QueryEditorMode

NS: Final = 'namespace=~"$namespace"'
SHARD: Final = f'{NS}, shard=~"$shard"'
CHANNEL: Final = f'{NS}, channel=~"$channel"'
SOURCE: Final = kinds.DataSourceRef(type_val="prometheus", uid="${datasource}")

GREEN, YELLOW, RED = "green", "yellow", "red"
Steps = tuple[tuple[float, str], ...]
"""Colours, each from a value on; below the first one a value is green."""
BAD_ABOVE_ZERO: Final[Steps] = ((1, RED),)


class Query(NamedTuple):
    """An expression of PromQL, and the name of its series in the legend."""

    expr: str
    legend: str = "__auto"


class Panel(NamedTuple):
    """A panel, and its size in Grafana's grid of 24 columns."""

    builder: Any
    width: int
    height: int


class Row(NamedTuple):
    """A heading, and the panels under it from left to right."""

    title: str
    panels: list[Panel]


def p(quantile: float, histogram: str, *, where: str = NS, by: str = "") -> str:
    """Return the expression of a quantile of a histogram, over all processes."""
    labels = f"{by}, le" if by else "le"
    rates = f"rate({histogram}_bucket{{{where}}}[$__rate_interval])"
    return f"histogram_quantile({quantile}, sum by ({labels}) ({rates}))"


def rate(counter: str, *, where: str = NS, by: str = "", or_zero: bool = False) -> str:
    """Return the expression of a counter's rate a second, over all processes."""
    return _summed(f"rate({counter}{{{where}}}[$__rate_interval])", by, or_zero=or_zero)


def increase(counter: str, *, where: str = NS, by: str = "", over: str = "$__rate_interval") -> str:
    """Return the expression of how much a counter grew, over all processes; 0 if there is none."""
    return _summed(f"increase({counter}{{{where}}}[{over}])", by, or_zero=not by)


def _summed(inner: str, by: str, *, or_zero: bool) -> str:
    summed = f"sum by ({by}) ({inner})" if by else f"sum({inner})"
    return f"{summed} or vector(0)" if or_zero else summed


def graph(
    title: str,
    *queries: Query,
    about: str,
    unit: str = "short",
    width: int = 12,
    height: int = 8,
    steps: Steps = (),
    top: float | None = None,
    stacked: bool = False,
) -> Panel:
    """Return lines over time. `steps` are drawn as lines; `top`: the scale reaches so far at least."""
    panel = (
        _begun(timeseries.Panel(), title, about, queries)
        .unit(unit)
        .min(0)
        .line_width(1)
        .fill_opacity(30 if stacked else 8)
        .show_points(kinds.VisibilityMode.NEVER)
        .legend(_legend())
        .tooltip(
            common.VizTooltipOptions().mode(kinds.TooltipDisplayMode.MULTI).sort(kinds.SortOrder.DESCENDING)
        )
    )
    if stacked:
        panel = panel.stacking(common.StackingConfig().mode(kinds.StackingMode.NORMAL))
    if top is not None:
        panel = panel.axis_soft_max(top)
    if steps:
        dashed = common.GraphThresholdsStyleConfig().mode(kinds.GraphThresholdsStyleMode.DASHED)
        panel = panel.thresholds(_thresholds(steps)).thresholds_style(dashed)
    return Panel(panel, width, height)


def number(
    title: str,
    *queries: Query,
    about: str,
    unit: str = "short",
    width: int = 4,
    height: int = 4,
    steps: Steps = (),
    spark: bool = False,
    words: dict[str, tuple[str, str]] | None = None,
) -> Panel:
    """Return the latest value, large. `spark`: with its course; `words`: what to show in place of values."""
    panel = (
        _begun(stat.Panel(), title, about, queries)
        .unit(unit)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).fields("").values(values=False))
        .color_mode(kinds.BigValueColorMode.VALUE)
        .graph_mode(kinds.BigValueGraphMode.AREA if spark else kinds.BigValueGraphMode.NONE)
        .thresholds(_thresholds(steps))
    )
    if words:
        panel = panel.mappings([_mapping(words)])
    return Panel(panel, width, height)


def states(
    title: str,
    *queries: Query,
    about: str,
    words: dict[str, tuple[str, str]],
    width: int = 12,
    height: int = 6,
) -> Panel:
    """Return what state each thing was in over time. `words`: text and colour of each value."""
    panel = (
        _begun(statetimeline.Panel(), title, about, queries)
        .mappings([_mapping(words)])
        .show_value(kinds.VisibilityMode.NEVER)
        .merge_values(merge_values=True)
        .row_height(0.8)
        .line_width(0)
        .legend(
            common.VizLegendOptions()
            .show_legend(show_legend=False)
            .display_mode(kinds.LegendDisplayMode.LIST)
        )
        .color_scheme(build.FieldColor().mode(model.FieldColorModeId.THRESHOLDS))
    )
    return Panel(panel, width, height)


def heat(
    title: str, histogram: str, *, about: str, where: str = NS, width: int = 12, height: int = 8
) -> Panel:
    """Return how the values of a histogram of seconds are spread, over time."""
    query = _target(
        Query(f"sum by (le) (increase({histogram}_bucket{{{where}}}[$__rate_interval]))", "{{le}}"), 0
    )
    panel = (
        heatmap.Panel()
        .title(title)
        .description(about)
        .datasource(SOURCE)
        .with_target(query.format(PromQueryFormat.HEATMAP))
        .calculate(calculate=False)
        .color(heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Oranges").steps(32))
        .y_axis(heatmap.YAxisConfig().unit("s"))
        .cell_gap(0)
    )
    return Panel(panel, width, height)


def rows_of(
    title: str,
    query: Query,
    *,
    about: str,
    columns: dict[str, str],
    width: int = 12,
    height: int = 8,
) -> Panel:
    """Return a table of the series there are now. `columns`: labels, with their headings in order."""
    layout = model.DataTransformerConfig(
        id_val="organize",
        options={
            "includeByName": dict.fromkeys(columns, True),
            "indexByName": {name: place for place, name in enumerate(columns)},
            "renameByName": columns,
        },
    )
    panel = (
        table.Panel()
        .title(title)
        .description(about)
        .datasource(SOURCE)
        .with_target(_target(query, 0).instant().format(PromQueryFormat.TABLE))
        .with_transformation(layout)
        .cell_options(kinds.TableAutoCellOptions())
    )
    panel.build().options.footer = None  # Grafana 13 has none
    return Panel(panel, width, height)


def _begun(panel: Any, title: str, about: str, queries: tuple[Query, ...]) -> Any:
    panel = panel.title(title).description(about).datasource(SOURCE)
    for place, query in enumerate(queries):
        panel = panel.with_target(_target(query, place))
    return panel


def _target(query: Query, place: int) -> Dataquery:
    return (
        Dataquery()
        .datasource(SOURCE)
        .editor_mode(QueryEditorMode.CODE)
        .expr(query.expr)
        .legend_format(query.legend)
        .range()
        .ref_id("ABCDEFGH"[place])
    )


def _legend() -> common.VizLegendOptions:
    return (
        common.VizLegendOptions()
        .show_legend(show_legend=True)
        .display_mode(kinds.LegendDisplayMode.LIST)
        .placement(kinds.LegendPlacement.BOTTOM)
    )


def _thresholds(steps: Steps) -> build.ThresholdsConfig:
    found = [model.Threshold(value=None, color=GREEN)]
    found += [model.Threshold(value=value, color=color) for value, color in steps]
    return build.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(found)


def _mapping(words: dict[str, tuple[str, str]]) -> model.ValueMap:
    return model.ValueMap(
        options={
            value: model.ValueMappingResult(text=text, color=color, index=place)
            for place, (value, (text, color)) in enumerate(words.items())
        }
    )
