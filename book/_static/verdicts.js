// The table of verdicts: sorts by a click on a column's head, filters by paper and verdict.
// Without this script it is the same table, whole. A plain script in a block, not a module:
// browsers refuse modules on pages opened from a file.
{
  const make = (tag, properties, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };

  // Numbers by value, words by the alphabet; a claim that has neither comes last.
  const compare = (a, b, sign) => {
    if (a === "" || b === "") return (a === "") - (b === "");
    const difference = Number(a) - Number(b);
    return sign * (Number.isNaN(difference) ? a.localeCompare(b) : difference);
  };

  const sortBy = (table, column) => {
    const heads = [...table.tHead.rows[0].cells];
    const down = heads[column].getAttribute("aria-sort") === "ascending";
    heads.forEach((head) => head.removeAttribute("aria-sort"));
    heads[column].setAttribute("aria-sort", down ? "descending" : "ascending");
    const key = (row) => row.cells[column].dataset.sort;
    const body = table.tBodies[0];
    body.append(...[...body.rows].sort((a, b) => compare(key(a), key(b), down ? -1 : 1)));
  };

  const addButtons = (table) => {
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const button = make("button", { type: "button", textContent: head.textContent });
      button.addEventListener("click", () => sortBy(table, column));
      head.replaceChildren(button);
    });
    table.tHead.rows[0].cells[0].setAttribute("aria-sort", "ascending");
    table.classList.add("sortable");
  };

  const choice = (rows, name) => {
    const values = [...new Set(rows.map((row) => row.dataset[name]))];
    const select = make("select", { name }, new Option("all", ""), ...values.map((v) => new Option(v)));
    const title = name[0].toUpperCase() + name.slice(1);
    return { select, label: make("label", {}, `${title} `, select) };
  };

  const addFilter = (table) => {
    const rows = [...table.tBodies[0].rows];
    const choices = ["paper", "verdict"].map((name) => choice(rows, name));
    const count = make("output", {});
    const filter = () => {
      for (const row of rows)
        row.hidden = choices.some(({ select: s }) => s.value && row.dataset[s.name] !== s.value);
      count.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} claims`;
    };
    choices.forEach(({ select }) => select.addEventListener("change", filter));
    table.before(make("div", { className: "xai-filter" }, ...choices.map((c) => c.label), count));
    filter();
  };

  for (const table of document.querySelectorAll("table.xai-verdicts")) {
    addButtons(table);
    addFilter(table);
  }
}
