"""The page of a diagnosis that was made without a run: one HTML file that needs no network. Knows verdict documents."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from mendloop.report.templating import page_template
from mendloop.report.verdict_view import presented
from mendloop.report.verdicts import Document


def render_diagnosis(verdicts: Sequence[Document], *, title: str, subtitle: str, remarks: Sequence[str] = ()) -> str:
    """The page as HTML text. A verdict has what `verdict_document` gives, and n, accuracy, failures, modes."""
    return page_template("diagnosis.html.j2").render(
        title=title,
        subtitle=subtitle,
        figures=_figures(verdicts),
        remarks=remarks,
        verdicts=[presented(verdict) for verdict in verdicts],
    )


def _figures(verdicts: Sequence[Document]) -> list[Document]:
    causes = Counter(verdict["cause"] for verdict in verdicts)
    common, count = causes.most_common(1)[0] if causes else ("nothing failed", 0)
    return [
        {"value": len(verdicts), "label": "slices diagnosed"},
        {"value": f"{common} ({count})" if count else common, "label": "commonest verdict"},
        {"value": causes.get("UNKNOWN", 0), "label": "abstentions"},
        {"value": f"{sum(v['wall_s'] for v in verdicts):.1f} s", "label": "probing"},
        {"value": f"{sum(v['token_count'] for v in verdicts):,}", "label": "tokens asked of models"},
    ]
