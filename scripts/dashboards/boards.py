"""A dashboard: its rows in the grid, its variables, its links, and the alerts marked on its graphs."""

from typing import Any, Final

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.builders.text import Panel as Text
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.text import TextMode

from dashboards.panels import NS, SOURCE, Panel, Row

FOLDER: Final = "Postorder"
TAG: Final = "postorder"
WIDTH: Final = 24
_LABELLED: Final = {
    "namespace": ("Namespace", "postorder_build_info"),
    "shard": ("Shard", "postorder_primary_up"),
    "channel": ("Channel", "postorder_pool_ceiling"),
    "slot": ("Provider", "postorder_slot_ceiling"),
    "instance": ("Process", "postorder_build_info"),
}


def board(
    name: str, title: str, rows: list[Row], *, about: str, variables: tuple[str, ...] = ()
) -> model.Dashboard:
    """Return a dashboard of the last hour, renewed every 30 s. `variables`: labels that one can choose by."""
    made = (
        build.Dashboard(f"Postorder: {title}")
        .uid(f"postorder-{name}")
        .description(about)
        .tags([TAG])
        .time("now-1h", "now")
        .refresh("30s")
        .timezone("browser")
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .with_variable(build.DatasourceVariable("datasource").label("Data source").type("prometheus"))
        .annotation(_alerts())
        .link(
            build.DashboardLink("Postorder")
            .type(model.DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .as_dropdown(as_dropdown=True)
            .include_vars(include_vars=True)
            .keep_time(keep_time=True)
        )
        .readonly()
    )
    for variable in ("namespace", *variables):
        made = made.with_variable(_variable(variable))
    built = made.build()
    built.panels = _laid_out(rows)
    for link in built.links or ():
        link.placement = None  # beside the variables, where it is seen, not in a menu
    for variable in (built.templating and built.templating.list_val) or ():
        variable.auto = variable.auto_count = variable.auto_min = None  # of intervals alone
    return built


def words(text: str, width: int = WIDTH, height: int = 3) -> Panel:
    """Return a panel of text, in Markdown."""
    return Panel(Text().mode(TextMode.MARKDOWN).content(text).transparent(transparent=True), width, height)


def _variable(name: str) -> build.QueryVariable:
    """Return a variable with the values of a label; `All` matches series without the label as well."""
    label, metric = _LABELLED[name]
    selector = "" if name == "namespace" else '{namespace=~"$namespace"}'
    query = f"label_values({metric}{selector}, {name})"
    return (
        build.QueryVariable(name)
        .label(label)
        .datasource(SOURCE)
        .query({"qryType": 1, "query": query, "refId": "PrometheusVariableQueryEditor-VariableQuery"})
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC)
        .multi(multi=True)
        .include_all(include_all=True)
        .all_value(".*")
        .current(model.VariableOption(selected=True, text=["All"], value=["$__all"]))
    )


def _alerts() -> build.AnnotationQuery:
    firing = f'ALERTS{{alertname=~"Postorder.*", alertstate="firing", {NS}}}'
    return (
        build.AnnotationQuery()
        .name("Alerts")
        .datasource(SOURCE)
        .enable(enable=True)
        .icon_color("red")
        .target(Dataquery().datasource(SOURCE).expr(firing).interval("30s").range().ref_id("Anno"))
        .title_format("{{alertname}}")
        .tag_keys("severity,shard,channel,slot,instance")
    )


def _laid_out(rows: list[Row]) -> list[Any]:
    """Return the panels with their places and numbers. A line is as high as its highest panel."""
    found: list[Any] = []
    y = 0
    for row in rows:
        found.append(model.RowPanel(title=row.title, grid_pos=model.GridPos(h=1, w=WIDTH, x=0, y=y)))
        y, x, line = y + 1, 0, 0
        for panel in row.panels:
            if x + panel.width > WIDTH:
                x, y, line = 0, y + line, 0
            built = panel.builder.build()
            built.grid_pos = model.GridPos(h=panel.height, w=panel.width, x=x, y=y)
            found.append(built)
            x, line = x + panel.width, max(line, panel.height)
        y += line
    for number, one in enumerate(found, 1):
        one.id_val = number
    return found
