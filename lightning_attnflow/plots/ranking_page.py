"""The HTML page of a ranking: style, table frame and the script for search and sorting, all inline."""

from __future__ import annotations

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title><!--title--></title>
<style>
  :root { color-scheme: light dark; --line: #8884; --good: #2a8f4f; --bad: #c8432f; --none: #888; }
  body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 78rem; padding: 0 1rem; }
  h1 { font-size: 1.4rem; margin: 0 0 .3rem; }
  p { margin: .2rem 0 .8rem; max-width: 60rem; }
  form { display: flex; gap: .8rem; align-items: center; margin-bottom: .6rem; flex-wrap: wrap; }
  input[type=search] { font: inherit; padding: .35rem .6rem; width: 22rem; }
  select { font: inherit; padding: .3rem; }
  table { border-collapse: collapse; width: 100%; }
  th { text-align: left; position: sticky; top: 0; background: Canvas; padding: 0;
       border-bottom: 2px solid var(--line); white-space: nowrap; }
  th button { font: inherit; font-weight: 600; background: none; border: 0; padding: .4rem .5rem;
              cursor: pointer; color: inherit; }
  th[aria-sort=ascending] button::after { content: " \\25b2"; }
  th[aria-sort=descending] button::after { content: " \\25bc"; }
  td { border-bottom: 1px solid var(--line); padding: .3rem .5rem; vertical-align: top; }
  td:nth-child(-n+5) { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
  .text { width: 45%; overflow-wrap: anywhere; }
  tr { --sign: var(--none); } tr.helpful { --sign: var(--good); } tr.harmful { --sign: var(--bad); }
  td:nth-child(7) { color: var(--sign); }
  .bar { display: block; position: relative; width: 9rem; height: 1.2rem;
         background: linear-gradient(var(--line), var(--line)) center / 1px 100% no-repeat; }
  .bar i { position: absolute; top: .5rem; height: .2rem; background: var(--sign); opacity: .45; }
  .bar b { position: absolute; top: .25rem; width: .7rem; height: .7rem; border-radius: 50%; background: var(--sign);
           transform: translateX(-50%); }
  #shown { color: var(--none); }
</style>
<h1><!--title--></h1>
<p><!--note--></p>
<form onsubmit="return false">
  <input type="search" id="query" placeholder="Search texts and labels" aria-label="Search texts and labels">
  <select id="sign" aria-label="Sign">
    <option value="">all signs</option><option>helpful</option><option>harmful</option><option>undecided</option>
  </select>
  <span><!--counts--></span> <span id="shown" role="status"></span>
</form>
<table>
  <thead><tr>
    <th aria-sort="ascending"><button>rank</button></th><th><button>index</button></th><th><button>value</button></th>
    <th><button>low</button></th><th><button>high</button></th><th><button>interval</button></th>
    <th><button>sign</button></th><th><button>label</button></th><th><button>text</button></th>
  </tr></thead>
  <tbody>
<!--rows-->
  </tbody>
</table>
<script>
  const body = document.querySelector("tbody"), rows = [...body.rows], heads = [...document.querySelectorAll("th")];
  const query = document.getElementById("query"), sign = document.getElementById("sign");
  const searched = rows.map(row => (row.cells[7].textContent + " " + row.cells[8].textContent).toLowerCase());
  function show() {
    const wanted = query.value.toLowerCase();
    let shown = 0;
    rows.forEach((row, i) => {
      const yes = searched[i].includes(wanted) && (!sign.value || row.className === sign.value);
      row.hidden = !yes;
      shown += yes;
    });
    document.getElementById("shown").textContent = shown < rows.length ? shown + " of " + rows.length + " shown" : "";
  }
  function key(row, column) {
    const cell = row.cells[column === 5 ? 2 : column], text = cell.dataset.v ?? cell.textContent;
    if (column === 5) return row.cells[4].dataset.v - row.cells[3].dataset.v;
    return text !== "" && !isNaN(text) ? Number(text) : text;
  }
  heads.forEach((head, column) => head.firstElementChild.addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending";
    heads.forEach(other => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const collator = new Intl.Collator(undefined, { numeric: true });
    const sorted = rows.map(row => [key(row, column), row]).sort(([a], [b]) =>
      typeof a === "number" && typeof b === "number" ? a - b : collator.compare(a, b));
    if (down) sorted.reverse();
    body.append(...sorted.map(([, row]) => row));
  }));
  query.addEventListener("input", show);
  sign.addEventListener("change", show);
  // The address may hold a search, as in ranking.html#great, to point somebody at it.
  query.value = decodeURIComponent(location.hash.slice(1));
  show();
</script>
</html>
"""
