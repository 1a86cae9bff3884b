"""The look of a campaign's report."""

STYLE = """
:root{color-scheme:light dark;--paper:#f6f7f9;--card:#fff;--ink:#161a22;--faint:#5f6b7d;--line:#e1e5eb;--soft:#eef1f5;
--accent:#2166d6;--good:#14805e;--bad:#c9372c;--warn:#a86400;--road:#d5dae2;--crossing:#bfc7d3;--divider:#fff;--agent:#667287;
--heat:33,102,214;--heat-low:201,55,44}
@media(prefers-color-scheme:dark){:root{--paper:#0c0e13;--card:#151920;--ink:#e7ebf2;--faint:#93a0b4;--line:#272d38;
--soft:#1c212b;--accent:#6ea2ff;--good:#4cc79b;--bad:#ff7468;--warn:#e0a040;--road:#2a303b;--crossing:#3a4352;
--divider:#566072;--agent:#a4b0c3;--heat:84,146,255;--heat-low:240,90,80}}
*{box-sizing:border-box}html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1240px;margin:0 auto;padding:40px 24px 72px}
h1{font-size:32px;line-height:1.15;letter-spacing:-.02em;margin:0 0 6px}
h2{font-size:20px;letter-spacing:-.01em;margin:44px 0 4px}h2+p,.lead{color:var(--faint);margin:0 0 16px;max-width:78ch}
.card{background:var(--card);border:1px solid var(--line);border-radius:14px;padding:6px 18px 10px}
.scroll{overflow-x:auto}.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(130px,1fr));gap:12px;margin:22px 0 0}
.tile{background:var(--card);border:1px solid var(--line);border-radius:14px;padding:12px 16px}
.tile b{display:block;font-size:24px;letter-spacing:-.02em}.tile span{color:var(--faint);font-size:13px}
table{border-collapse:collapse;width:100%;font-size:14px}
th{color:var(--faint);font-weight:500;font-size:13px;text-align:left;padding:8px 10px;vertical-align:bottom;
border-bottom:1px solid var(--line)}
td{padding:8px 10px;border-bottom:1px solid var(--line);vertical-align:middle}tr:last-child td{border-bottom:0}
.number{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}.none{color:var(--faint)}
td.name,th.name{white-space:nowrap;font-weight:600;position:sticky;left:0;background:var(--card);z-index:1}
td.name small{display:block;font-weight:400;color:var(--faint);white-space:nowrap}
.score b{font-size:16px}.score small{color:var(--faint);margin-left:6px;white-space:nowrap}
.whisker{position:relative;height:8px;margin-top:5px;background:var(--soft);border-radius:4px;min-width:110px}
.whisker i{position:absolute;top:0;height:8px;border-radius:4px;background:rgba(var(--heat),.32)}
.whisker u{position:absolute;top:-1px;width:3px;height:10px;border-radius:2px;background:var(--accent)}
.ended{display:flex;height:10px;border-radius:5px;overflow:hidden;min-width:120px;background:var(--soft)}
.ended i{display:block}th.number{white-space:normal;min-width:78px}.count.some{color:var(--bad);font-weight:600}
.count small{display:block;font-weight:400;color:var(--faint)}
.heat td.cell{text-align:center;font-variant-numeric:tabular-nums;border:2px solid var(--card);border-radius:8px;padding:7px 6px}
.heat th{text-align:center}.heat th.name{text-align:left}.heat .group{white-space:nowrap}
.key{display:flex;flex-wrap:wrap;gap:4px 18px;color:var(--faint);font-size:13px;margin:10px 0 6px}
.key i{display:inline-block;width:10px;height:10px;border-radius:3px;margin-right:6px}
.tools{display:flex;flex-wrap:wrap;gap:8px;margin:0 0 14px;align-items:center}
select,button{font:inherit;font-size:14px;color:var(--ink);background:var(--card);border:1px solid var(--line);border-radius:9px;
padding:6px 10px;max-width:100%}button{cursor:pointer}button:hover,select:hover{border-color:var(--accent)}
:focus-visible{outline:2px solid var(--accent);outline-offset:2px}.tools span{color:var(--faint);font-size:13px}
.gallery{display:grid;grid-template-columns:repeat(auto-fill,minmax(228px,1fr));gap:14px}
.shot{padding:0;text-align:left;overflow:hidden;border-radius:14px;display:flex;flex-direction:column}
.shot canvas{width:100%;display:block;background:var(--soft)}.shot .above{aspect-ratio:4/3}.shot .seen{aspect-ratio:21/4}
.shot div{padding:9px 12px 12px}
.shot b{display:block;font-size:14px}.shot span{color:var(--faint);font-size:13px;display:block;overflow-wrap:anywhere}
.chip{display:inline-block;border-radius:20px;padding:1px 9px;font-size:12px;background:var(--soft);color:var(--faint);
white-space:nowrap}.chip.bad{background:rgba(var(--heat-low),.14);color:var(--bad)}.chip.good{color:var(--good)}
details.episode{background:var(--card);border:1px solid var(--line);border-radius:12px;margin:0 0 8px}
details.episode summary{cursor:pointer;list-style:none;padding:9px 14px;display:grid;gap:2px 14px;align-items:center;
grid-template-columns:minmax(110px,1.1fr) minmax(160px,2fr) 54px 62px minmax(110px,auto)}
details.episode summary::-webkit-details-marker{display:none}details.episode[open] summary{border-bottom:1px solid var(--line)}
summary b{overflow-wrap:anywhere}summary span{color:var(--faint);font-size:13px;overflow-wrap:anywhere}
.player{display:grid;grid-template-columns:minmax(0,1.15fr) minmax(0,1fr);gap:18px;padding:16px}
.player canvas.map{width:100%;aspect-ratio:5/4;border-radius:10px;background:var(--soft);display:block}
.player canvas.views{width:100%;border-radius:10px;margin-top:10px;display:block;background:#000}
.bar{display:flex;gap:10px;align-items:center;margin-top:10px}.bar input{flex:1;min-width:0;accent-color:var(--accent)}
.bar output{font-variant-numeric:tabular-nums;color:var(--faint);font-size:13px;min-width:9.5em;text-align:right}
.player figure{margin:0 0 8px}.player figcaption{font-size:13px;color:var(--faint);display:flex;gap:4px 12px;flex-wrap:wrap}
.player figcaption b{color:var(--ink);font-weight:600}.player figcaption i{display:inline-block;width:12px;height:3px;
border-radius:2px;vertical-align:middle;margin-right:5px}
.player svg{width:100%;height:auto;display:block;cursor:pointer}.player svg text{fill:var(--faint);font-size:10px}
.player svg .grid{stroke:var(--line)}.player svg .now{stroke:var(--ink);stroke-width:1.2}.player svg .fail{stroke:var(--bad);
stroke-dasharray:3 3}.facts{columns:2 170px;font-size:13px;margin:10px 0 0;padding:0;list-style:none}
.facts li{display:flex;justify-content:space-between;gap:10px;border-bottom:1px solid var(--line);padding:3px 0;
break-inside:avoid}.facts b{font-variant-numeric:tabular-nums}.wrong{color:var(--bad);margin:0 0 10px;padding:0;list-style:none;
font-size:14px}
footer{color:var(--faint);font-size:13px;margin-top:48px;max-width:90ch}
@media(max-width:760px){main{padding:24px 14px 48px}h1{font-size:25px}.card{padding:4px 10px 8px}.player{grid-template-columns:
minmax(0,1fr);padding:12px}details.episode summary{grid-template-columns:1fr auto}summary .wide{grid-column:1/-1}
.gallery{grid-template-columns:repeat(auto-fill,minmax(155px,1fr));gap:10px}
.score small{display:block;margin:0}td,th{padding:7px 8px}td.name{white-space:normal}}
"""
