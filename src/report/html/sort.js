// Tables sort by a click on a head: numbers by value, text as people list it, dashes always last.
for (const table of document.querySelectorAll('table')) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const order = new Intl.Collator('en', { numeric: true }).compare;
  const value = (row, i) => {
    const cell = row.cells[i];
    if (cell.querySelector('.null')) return null;
    const text = cell.dataset.v ?? cell.textContent;
    const number = Number.parseFloat(text);
    return cell.className === 'n' && !Number.isNaN(number) ? number : text;
  };
  heads.forEach((head, i) => {
    const button = document.createElement('button');
    button.textContent = head.textContent;
    head.replaceChildren(button);
    head.setAttribute('aria-sort', 'none');
    button.addEventListener('click', () => {
      const numeric = head.className === 'n';
      const now = head.getAttribute('aria-sort');
      const down = now === 'none' ? numeric : now === 'ascending';
      heads.forEach(h => h.setAttribute('aria-sort', 'none'));
      head.setAttribute('aria-sort', down ? 'descending' : 'ascending');
      const rows = [...body.rows].map(row => [value(row, i), row]);
      rows.sort(([a], [b]) => {
        if (a === null || b === null) return (a === null) - (b === null);
        const by = typeof a === 'number' && typeof b === 'number' ? a - b : order(a, b);
        return down ? -by : by;
      });
      body.append(...rows.map(([, row]) => row));
    });
  });
}

// A link to something that is folded opens it.
const unfold = () => {
  const at = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  for (let e = at; e; e = e.parentElement) if (e.tagName === 'DETAILS') e.open = true;
  at?.scrollIntoView();
};
window.addEventListener('hashchange', unfold);
if (location.hash) unfold();
