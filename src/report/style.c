/* The page's style: system fonts, one accent per run, light and dark by the reader's preference,
 * and tabs that work without a script (radio buttons and sibling selectors). */
#include "report/report_int.h"

static const char *const sheet[] = {
    ":root{color-scheme:light "
    "dark;--bg:#f7f8fa;--card:#fff;--ink:#14181f;--soft:#5b6472;--faint:#8a93a1;"
    "--line:#e4e7ec;--grid:#edf0f3;--mark:#fff7df;--train:#8d9db5;"
    "--shadow:0 1px 2px rgba(16,24,40,.05),0 1px 3px rgba(16,24,40,.06)}\n"
    "@media(prefers-color-scheme:dark){:root{--bg:#0e1116;--card:#161b22;--ink:#e7ebf0;--soft:#"
    "9aa5b4;"
    "--faint:#6d7887;--line:#272e38;--grid:#212832;--mark:#332b14;--train:#6c7c95;--shadow:none}}\n"
    "*{box-sizing:border-box}\n"
    "html{-webkit-text-size-adjust:100%}\n"
    "body{margin:0;background:var(--bg);color:var(--ink);font:15px/1.55 system-ui,-apple-system,"
    "\"Segoe UI\",Roboto,Inter,\"Helvetica "
    "Neue\",Arial,sans-serif;font-feature-settings:\"tnum\"}\n"
    "main{max-width:1080px;margin:0 auto;padding:40px 24px 56px}\n"
    "h1{font-size:28px;line-height:1.2;letter-spacing:-.02em;margin:0 0 "
    "6px;overflow-wrap:anywhere}\n"
    "h2{font-size:17px;letter-spacing:-.01em;margin:44px 0 14px}\n"
    "p{margin:0}\n.sub{color:var(--soft);overflow-wrap:anywhere}\n"
    ".state{display:inline-block;padding:1px 9px;border-radius:99px;border:1px solid var(--line);"
    "background:var(--card);font-size:13px;color:var(--soft);vertical-align:3px;margin-left:8px;"
    "font-weight:500;letter-spacing:0}\n"
    ".state.bad{color:#c2410c;border-color:#fdba74}\n"
    "@media(prefers-color-scheme:dark){.state.bad{color:#fdba74;border-color:#7c2d12}}\n",

    ".tiles{display:grid;grid-template-columns:repeat(4,1fr);gap:12px;margin:26px 0 0}\n"
    ".card,.tiles div{background:var(--card);border:1px solid var(--line);border-radius:12px;"
    "box-shadow:var(--shadow)}\n"
    ".tiles div{padding:13px 16px 12px}\n"
    ".tiles b{display:block;font-size:22px;line-height:1.3;font-weight:600;letter-spacing:-.02em;"
    "white-space:nowrap}\n"
    ".tiles span{display:block;font-size:13px;color:var(--soft)}\n"
    ".tiles small{font-size:13px;color:var(--faint);font-weight:400;letter-spacing:0}\n"
    ".card{padding:18px 20px 14px}\n"
    ".bar{display:flex;flex-wrap:wrap;gap:8px "
    "20px;align-items:center;justify-content:space-between;"
    "margin:0 0 10px}\n"
    ".bar h2,.card h3{margin:0;font-size:15px;font-weight:600;letter-spacing:-.01em}\n"
    ".card h3{margin:0 0 8px}\n"
    ".legend{display:flex;flex-wrap:wrap;gap:4px "
    "18px;font-size:13px;color:var(--soft);list-style:none;"
    "margin:0 0 8px;padding:0}\n"
    ".legend li{display:flex;align-items:center;gap:7px;overflow-wrap:anywhere}\n"
    ".legend svg{width:26px;height:10px;min-width:26px;overflow:visible}\n"
    ".swatch{display:inline-block;width:10px;height:10px;border-radius:3px;background:var(--c);"
    "margin-right:7px}\n"
    ".plot{overflow-x:auto}\n"
    ".plot svg{display:block;width:100%;height:auto}\n"
    ".wide svg{min-width:600px}\n.half svg{min-width:320px}\n"
    ".pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,420px),1fr));gap:"
    "16px;"
    "margin:16px 0 0}\n.pair>*{min-width:0}\n"
    ".tabs>input{position:absolute;opacity:0;pointer-events:none}\n"
    ".tabs .pick{display:flex;background:var(--bg);border:1px solid "
    "var(--line);border-radius:9px;padding:2px}\n"
    ".tabs label{padding:3px "
    "13px;border-radius:7px;font-size:13px;color:var(--soft);cursor:pointer}\n"
    ".tabs label:hover{color:var(--ink)}\n"
    ".tabs .pane{display:none}\n"
    "#by0:checked~.p0,#by1:checked~.p1,#by2:checked~.p2{display:block}\n"
    "#by0:checked~.bar .l0,#by1:checked~.bar .l1,#by2:checked~.bar .l2{background:var(--card);"
    "color:var(--ink);font-weight:500;box-shadow:0 0 0 1px var(--line)}\n"
    "#by0:focus-visible~.bar .l0,#by1:focus-visible~.bar .l1,#by2:focus-visible~.bar "
    ".l2{outline:2px solid "
    "var(--soft);outline-offset:1px}\n",

    "svg text{font-size:12px;fill:var(--soft);font-feature-settings:\"tnum\"}\n"
    ".grid path{stroke:var(--grid);fill:none}\n"
    ".axis{stroke:var(--faint);fill:none;stroke-opacity:.6}\n"
    ".ty text{text-anchor:end}\n.tx text{text-anchor:middle}\n"
    "svg text.name{fill:var(--faint)}\n"
    ".t,.v,.e{fill:none;stroke:var(--c);stroke-linejoin:round;stroke-linecap:round}\n"
    ".t{stroke-width:1.4}\n.many.loss .t,.loss .t{stroke-width:1.1;stroke-opacity:.45}\n"
    ".one .loss .t,.one .legend .t{stroke:var(--train);stroke-opacity:1}\n"
    ".v{stroke-width:2}\n.e{stroke-width:1.2;stroke-opacity:.75}\n"
    ".p{fill:var(--card);stroke:var(--c);stroke-width:2}\n.p:hover{fill:var(--c)}\n"
    ".p.best{fill:var(--c);stroke:var(--card)}\n"
    ".d{fill:var(--c)}.one .loss .d{fill:var(--train)}\n"
    ".floor path{stroke:var(--c);stroke-dasharray:5 4;stroke-opacity:.8}\n"
    ".one .floor path{stroke:var(--faint)}\n"
    ".floor text{text-anchor:end}\n"
    ".strips rect{fill:transparent}\n"
    ".strips path{stroke:var(--faint);opacity:0}\n"
    ".strips text{text-anchor:end;opacity:0;fill:var(--ink)}\n"
    ".strips g:hover path,.strips g:hover text{opacity:1}\n"
    ".k{fill:var(--c)}\n.one .loss .k{fill:var(--train)}\n"
    ".scroll{overflow-x:auto}\n"
    "table{border-collapse:collapse;width:100%;font-size:14px}\n"
    "th,td{text-align:left;padding:6px 14px 6px 0;border-bottom:1px solid "
    "var(--grid);vertical-align:top;"
    "overflow-wrap:anywhere}\n"
    "th{font-weight:500;color:var(--soft)}\nthead "
    "th{font-size:13px;border-bottom-color:var(--line)}\n"
    "tbody th{width:30%;min-width:130px;font-weight:400}\n"
    "tr:last-child>*{border-bottom:0}\n"
    "td.n,th.n{text-align:right;padding:6px 0 6px 14px;white-space:nowrap;overflow-wrap:normal}\n"
    "td{min-width:84px}td.n{min-width:0}td.win{font-weight:600}\n"
    "tr.diff td,tr.diff th{background:var(--mark)}\n"
    "code,.key{font:13px/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,\"DejaVu Sans "
    "Mono\",monospace}\n",

    ".samples{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,320px),1fr));gap:"
    "14px}\n"
    ".sample{padding:14px 18px 16px;margin:0;min-width:0}\n"
    ".sample figcaption{font-size:13px;color:var(--faint);margin:0 0 6px}\n"
    ".sample div{white-space:pre-wrap;overflow-wrap:anywhere;max-height:340px;overflow-y:auto;"
    "font:15px/1.6 Charter,\"Iowan Old Style\",Georgia,\"DejaVu "
    "Serif\",serif;unicode-bidi:isolate}\n"
    "details{margin:14px 0 0}\n"
    "details>summary{cursor:pointer;color:var(--soft);font-size:14px;padding:4px 0}\n"
    "details>summary:hover{color:var(--ink)}\n"
    "details[open]>summary{margin-bottom:8px}\n"
    "footer{margin:48px 0 0;padding:16px 0 0;border-top:1px solid var(--line);font-size:13px;"
    "color:var(--faint);overflow-wrap:anywhere}\n"
    "@media(max-width:760px){main{padding:24px 14px 40px}h1{font-size:23px}.card{padding:14px 14px "
    "10px}"
    ".tiles{grid-template-columns:repeat(2,1fr)}.tiles b{font-size:19px}}\n"
    "@media print{body{background:#fff}.tabs "
    ".pane{display:block}.pick,.strips{display:none!important}"
    ".card,.tiles div{break-inside:avoid;box-shadow:none}}\n",
};

/* Hues that stay apart for colour-blind readers, on white and on black. */
static const char *const hues[][2] = {
    {"#2563eb", "#6ea8fe"}, {"#e0591b", "#fb9a5b"}, {"#0d9467", "#3ecf9b"}, {"#b5379f", "#e58bd6"},
    {"#b0820a", "#e3b93b"}, {"#0e8fb3", "#4cc6e6"}, {"#c9273f", "#f98091"}, {"#59636e", "#aab4c0"},
};

void aa__style(size_t n_runs, aa_text *t) {
    const size_t known = sizeof hues / sizeof *hues;
    for (size_t i = 0; i < sizeof sheet / sizeof *sheet; i++) aa_text_add(t, sheet[i]);
    for (size_t r = 0; r < n_runs; r++) {
        if (r < known) aa_text_printf(t, ".r%zu{--c:%s}\n", r, hues[r][0]);
        else aa_text_printf(t, ".r%zu{--c:hsl(%zu 60%% 50%%)}\n", r, r * 137 % 360);
    }
    aa_text_add(t, "@media(prefers-color-scheme:dark){");
    for (size_t r = 0; r < n_runs && r < known; r++)
        aa_text_printf(t, ".r%zu{--c:%s}", r, hues[r][1]);
    aa_text_add(t, "}\n");
}
