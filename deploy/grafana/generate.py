"""Makes the dashboards' JSON of panels.py: `python deploy/grafana/generate.py` (grafana-foundation-sdk, extra dev).

The JSON lies in charts/mendloop/files/dashboards, where the chart takes it; Grafana imports it as it is.
"""

from __future__ import annotations

import sys
from pathlib import Path

from grafana_foundation_sdk.builders.common import VizLegendOptions
from grafana_foundation_sdk.builders.dashboard import Dashboard, DatasourceVariable, Row
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.builders.timeseries import Panel as Graph
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import LegendDisplayMode, LegendPlacement
from grafana_foundation_sdk.models.dashboard import DataSourceRef

sys.path.insert(0, str(Path(__file__).parent))
from panels import BOARDS, Board, Panel

OUT = Path(__file__).resolve().parents[2] / "charts" / "mendloop" / "files" / "dashboards"
SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
HEIGHT = 8
NOTHING = "nothing in this time"


def graph(panel: Panel) -> Graph:
    """One panel as Grafana has it."""
    legend = VizLegendOptions().display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM)
    made = Graph().title(panel.title).description(panel.question).unit(panel.unit).datasource(SOURCE)
    made = made.no_value(NOTHING)
    made = made.span(panel.width).height(HEIGHT).min(0).legend(legend.show_legend(True))
    if panel.highest is not None:
        made = made.max(panel.highest)
    for letter, query in zip("ABCDEFGH", panel.queries, strict=False):
        target = Dataquery().expr(query.expr).legend_format(query.legend).ref_id(letter).datasource(SOURCE)
        made = made.with_target(target.exemplar("histogram_quantile" in query.expr))
    return made


def dashboard(board: Board) -> str:
    """One dashboard as JSON."""
    made = (
        Dashboard(board.title)
        .uid(board.uid)
        .description(board.reader)
        .tags(["mendloop"])
        .refresh("30s")
        .time("now-6h", "now")
        .with_variable(DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    )
    for title, panels in board.rows:
        made = made.with_row(Row(title))
        for panel in panels:
            made = made.with_panel(graph(panel))
    return JSONEncoder(sort_keys=True, indent=1).encode(made.build()) + "\n"


def main() -> None:
    """Write every dashboard."""
    OUT.mkdir(parents=True, exist_ok=True)
    for board in BOARDS:
        (OUT / f"{board.uid.removeprefix('mendloop-')}.json").write_text(dashboard(board))


if __name__ == "__main__":
    main()
