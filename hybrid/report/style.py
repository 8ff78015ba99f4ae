"""The page's style sheet: light, dark and print; the figures take their colours from its variables."""

from __future__ import annotations

CSS = """
:root {
  color-scheme: light dark;
  --paper: #ffffff; --ink: #1d232b; --soft: #5c6773; --line: #d9dee4; --band: #f4f6f8; --link: #1f5fa8;
  --good: #1a7f4b; --bad: #b3392f; --warn: #fdf3d7; --warn-ink: #6d5200; --heat: 179, 57, 47;
  --s1: #2f6fb5; --s2: #c8562b; --s3: #2f8f63; --s4: #8a5bb0; --s5: #a37c12; --s6: #5d6b78;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14181d; --ink: #e2e7ec; --soft: #9aa6b2; --line: #333c46; --band: #1c2229; --link: #82b4ec;
    --good: #62c794; --bad: #ef8a80; --warn: #3a3113; --warn-ink: #f0d98c; --heat: 239, 138, 128;
    --s1: #6aa8ea; --s2: #ee8d63; --s3: #62c794; --s4: #bd93e0; --s5: #d9b24c; --s6: #9aa6b2;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 0 1.5rem 4rem; max-width: 74rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
}
header { padding: 2rem 0 .5rem; }
h1 { font-size: 1.7rem; margin: 0 0 .3rem; line-height: 1.2; }
h2 { font-size: 1.25rem; margin: 2.6rem 0 .6rem; padding-top: .6rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.4rem 0 .4rem; }
h4 { font-size: .92rem; margin: 1rem 0 .3rem; }
p { margin: .4rem 0; max-width: 62rem; }
.soft { color: var(--soft); font-size: .88rem; }
a { color: var(--link); }
nav { display: flex; flex-wrap: wrap; gap: .2rem 1rem; font-size: .88rem; margin: .8rem 0 0; }
nav a { text-decoration: none; }
nav a:hover { text-decoration: underline; }
code, pre { font: .86em/1.45 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; }
pre {
  background: var(--band); padding: .7rem .9rem; border-radius: 5px; white-space: pre-wrap; overflow-wrap: anywhere;
}
.scroll { overflow: auto; max-height: 80rem; margin: .5rem 0 1rem; border: 1px solid var(--line); border-radius: 5px; }
.scroll table { margin: 0; }
table { border-collapse: separate; border-spacing: 0; font-variant-numeric: tabular-nums; width: 100%; }
th, td { padding: .38rem .75rem; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
tr:last-child > * { border-bottom: 0; }
thead th {
  position: sticky; top: 0; z-index: 1; background: var(--band);
  font-weight: 600; font-size: .86rem; white-space: nowrap;
}
tbody th { font-weight: 600; white-space: nowrap; }
.num { text-align: right; white-space: nowrap; }
.wrap { overflow-wrap: anywhere; }
.wer th, .wer td { padding: .38rem .5rem; }
.wer tbody th { white-space: normal; min-width: 9rem; }
.wer b { font-size: 1.08rem; font-weight: 600; }
.wer .best { color: var(--good); }
.wer small { color: var(--soft); display: block; font-size: .8rem; white-space: nowrap; }
.good { color: var(--good); } .bad { color: var(--bad); }
.warn, .none { padding: .5rem .8rem; border-radius: 5px; margin: .6rem 0; }
.warn { background: var(--warn); color: var(--warn-ink); }
.none { background: var(--band); color: var(--soft); }
.warn ul { margin: .2rem 0; padding-left: 1.2rem; }
.bar { display: inline-block; height: .62rem; background: var(--s1); border-radius: 2px; min-width: 2px; }
.columns {
  display: grid; gap: 0 1.2rem; align-items: start; grid-template-columns: repeat(auto-fit, minmax(15rem, 1fr));
}
details { margin: .5rem 0; }
summary { cursor: pointer; font-weight: 600; padding: .25rem 0; }
svg.plot { width: 100%; height: auto; display: block; margin: .4rem 0; }
.across { overflow-x: auto; }
.across svg.plot { min-width: 52rem; }
svg.plot text { font-family: inherit !important; }
@media print {
  :root { --paper: #fff; --ink: #000; --soft: #444; --line: #bbb; --band: #f2f2f2; }
  body { max-width: none; padding: 0; font-size: 10pt; }
  nav { display: none; }
  th, td { padding: .15rem .5rem; }
  .columns { grid-template-columns: repeat(auto-fit, minmax(10rem, 1fr)); }
  .scroll { max-height: none; overflow: visible; }
  .across { overflow: visible; }
  .across svg.plot { min-width: 0; }
  thead th { position: static; }
  h2, h3, summary { break-after: avoid; }
  tr, svg.plot { break-inside: avoid; }
  details::details-content { content-visibility: visible; block-size: auto; }
}
"""
