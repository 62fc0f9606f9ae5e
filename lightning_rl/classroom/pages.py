"""Templates of the pages in HTML; whatever a student wrote is escaped."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment
from markupsafe import Markup

ABOUT = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"  # no script, nothing fetched
HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{{ title }}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{{ about }}">
<style>
:root { color-scheme: light dark; --soft: #8884; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .4rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; }
th, td { text-align: left; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--soft); }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
td.none { color: #c2410c; } .picture { background: white; border-radius: 6px; max-width: 40rem; }
.picture svg { width: 100%; height: auto; display: block; }
.case { margin: .3rem 0; } .yes::before { content: "✓ "; color: #15803d; }
.no::before { content: "✗ "; color: #c2410c; }
pre { margin: .2rem 0 .2rem 1.2rem; white-space: pre-wrap; overflow-wrap: anywhere; }
.hint { margin-left: 1.2rem; font-style: italic; }
.error { border-left: 4px solid #c2410c; padding: .3rem .8rem; overflow-wrap: anywhere; }
</style></head><body><h1>{{ title }}</h1>
"""
FEEDBACK = """
<p><strong>{{ "%g"|format(result.points) }} of {{ "%g"|format(result.maximum) }}
points.</strong></p>
{% if result.error %}<p class="error">{{ result.error }}</p>{% endif %}
{% for note in result.notes %}<p>Note: {{ note }}</p>{% endfor %}
{% for q in result.questions %}
<h2>{{ q.question }}: {{ "%g"|format(q.points) }} of {{ "%g"|format(q.maximum) }}</h2>
{% for one in q.cases if hidden or not one.hidden %}
<div class="case"><span class="{{ "yes" if one.points >= one.maximum else "no" }}">{{ one.case }}
({{ "%g"|format(one.points) }} of {{ "%g"|format(one.maximum) }})</span>
{% if one.message %}<pre>{{ one.message }}</pre>{% endif %}
{% if one.hint %}<div class="hint">{{ one.hint }}</div>{% endif %}</div>
{% endfor %}
{% set unseen = q.cases|selectattr("hidden")|list %}
{% if unseen and not hidden %}<p>Hidden cases: {{ "%g"|format(unseen|sum("points")) }} of
{{ "%g"|format(unseen|sum("maximum")) }}</p>{% endif %}
{% endfor %}
"""
CLASS = """
<p>{{ results|length }} submissions. Mean {{ "%.1f"|format(mean) }}, median
{{ "%.1f"|format(median) }} of {{ "%g"|format(maximum) }} points.</p>
<div class="picture">{{ histogram }}</div>
<h2>Questions</h2>
<table><tr><th>question</th><th class="n">mean</th><th class="n">of</th>
<th class="n">all points</th></tr>
{% for q in questions %}<tr><td>{{ q.name }}</td><td class="n">{{ "%.2f"|format(q.mean) }}</td>
<td class="n">{{ "%g"|format(q.maximum) }}</td><td class="n">{{ q.full }}</td></tr>
{% endfor %}</table>
{% if missed %}<h2>What was missed</h2>
<table><tr><th>question</th><th>case</th><th class="n">students</th></tr>
{% for (question, case), count in missed %}<tr><td>{{ question }}</td><td>{{ case }}</td>
<td class="n">{{ count }}</td></tr>
{% endfor %}</table>{% endif %}
<h2>Students</h2>
<div class="scroll"><table><tr><th>student</th><th class="n">points</th>
{% for name in names %}<th class="n">{{ name }}</th>{% endfor %}<th>remarks</th></tr>
{% for result in results %}<tr><td>{% if result.student in links
%}<a href="feedback/{{ result.student|urlencode }}.html">{{ result.student }}</a>{% else
%}{{ result.student }}{% endif %}</td><td class="n">{{ "%g"|format(result.points) }}</td>
{% for q in result.questions %}<td class="n{{ "" if q.points else " none" }}">
{{ "%g"|format(q.points) }}</td>{% endfor %}
<td>{{ result.error or result.notes|join("; ") }}</td></tr>
{% endfor %}</table></div>
"""


def page(template: str, title: str, **values: Any) -> str:
    """Fill a template in; `histogram` alone is put in as it is.

    Example:
        >>> "&lt;script&gt;" in page("{{ name }}", "A page", name="<script>")
        True
    """
    if "histogram" in values:
        values["histogram"] = Markup(values["histogram"])  # noqa: S704 - drawn here
    made = Environment(autoescape=True).from_string(f"{HEAD}{template}</body></html>\n")
    return made.render(title=title, about=ABOUT, **values)
