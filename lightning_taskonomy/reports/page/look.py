"""The page around the answers: its style, in the figures' ink."""

from lightning_taskonomy.reports.figures.style import INK

__all__ = ["INDEX"]

_CSS = """
:root{--ink:INK;--soft:#4d5463;--line:#d5d8df;--page:#f6f7f9;--card:#fff;--mark:#0062a3;--bad:#a3200d;
--Dash-Fill-Interactive-Strong:#0062a3}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:15px/1.45 system-ui,sans-serif}
header{padding:1rem 1.4rem .7rem;display:flex;gap:.2rem 1.4rem;align-items:baseline;flex-wrap:wrap}
h1{font-size:1.45rem;margin:0}header p{margin:0;color:var(--soft)}
h2{font-size:1rem;margin:1.1rem 0 .3rem}
.note{color:var(--soft);font-size:.87rem;margin:.3rem 0}
.switch:not([hidden]){padding:0 1.4rem .2rem}
.switch label{font-size:1.05rem;font-weight:600;padding:.3rem 1rem .3rem .2rem}
.away{visibility:hidden;height:0;overflow:hidden}
.panel{display:grid;grid-template-columns:28.5rem minmax(0,1fr);gap:1.2rem;padding:1.1rem 1.4rem;align-items:start}
.controls{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:.2rem 1.1rem 1rem}
.answer{display:grid;gap:.9rem;min-width:0}
.state{font-weight:600}.state p{margin:0}
.refused{color:var(--bad);font-weight:600;margin:0}.refused:not(:empty)::before{content:"✕ "}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(10rem,1fr));gap:.8rem;margin:0}
.card,.more:not(:empty),.graph,.curve:not(:empty),.scroll{background:var(--card);border:1px solid var(--line);
border-radius:8px;padding:.7rem 1rem}
dt{color:var(--soft);font-size:.87rem}dd{margin:0;font-size:1.5rem;font-weight:650;font-variant-numeric:tabular-nums}
dd.note{font-size:.82rem;font-weight:400}
.more{border-left:5px solid var(--mark)!important}.more p{margin:.1rem 0}
.graph{padding:.2rem}.legend{display:flex;flex-wrap:wrap;gap:.2rem 1.3rem;font-size:.87rem}
.line{display:inline-block;width:2.6rem;margin-right:.4rem;vertical-align:middle;border:0 solid #6b7280}
.mark{margin-right:.35rem;-webkit-text-stroke:.6px var(--ink)}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
caption{text-align:left;font-weight:600;padding-bottom:.3rem}
th,td{padding:.2rem .5rem .2rem 0;text-align:left;border-bottom:1px solid var(--line)}
th{font-weight:500}thead th{font-weight:600;color:var(--soft);font-size:.87rem;vertical-align:bottom}
.number{text-align:right}.scroll{overflow-x:auto}
.tasks{font-size:.87rem}.tasks td{padding:.05rem .3rem .05rem 0}.tasks .family th{font-weight:600;padding-top:.6rem}
.tasks .dash-input-container{width:3.7rem}
.tasks thead th:last-child,.tasks td:last-child{padding-right:0}.tasks thead th{font-size:.8rem}
.buttons{display:flex;flex-wrap:wrap;gap:.5rem;margin:.4rem 0}
button{font:inherit;color:var(--ink);background:var(--card);border:1px solid #7b8290;border-radius:6px;
padding:.3rem .8rem;cursor:pointer}
button:hover{border-color:var(--mark);color:var(--mark)}
.answer .buttons button{background:var(--mark);border-color:var(--mark);color:#fff}
:focus-visible{outline:3px solid var(--mark)!important;outline-offset:2px}
.hidden{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap}
.skip{position:absolute;left:-99rem}.skip:focus{left:1rem;top:.5rem;background:var(--card);padding:.4rem .8rem;
z-index:9}
@media (max-width:64rem){.panel{grid-template-columns:minmax(0,1fr)}}
""".replace("INK", INK)

INDEX = (
    '<!DOCTYPE html><html lang="en"><head>{%metas%}<title>{%title%}</title>{%favicon%}{%css%}<style>'
    + _CSS
    + "</style></head><body>{%app_entry%}<footer>{%config%}{%scripts%}{%renderer%}</footer></body></html>"
)
"""The page's frame, as Dash wants it."""
