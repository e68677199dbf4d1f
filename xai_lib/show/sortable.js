// Every table.xai-sortable sorts by a click on a column's head, and filters.
// A cell sorts by its data-sort, else by its text without the small print; blanks come last.
// data-filters names the columns that get a choice, each with the value chosen at first, as
// JSON: {"network": "resnet18", "method": ""}. A row's value is its data-<name in lower case>,
// else the cell's text. data-noun is what the rows are, for the count.
// Without this script it is the same table, whole. A plain script in a block, not a module:
// browsers refuse modules on pages opened from a file. It may stand on a page several times.
{
  const make = (tag, properties, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };

  const text = (cell) => (cell.firstChild?.textContent ?? "").trim();
  const headsOf = (table) => [...table.tHead.rows[0].cells];
  const rowsOf = (table) => [...table.tBodies[0].rows];

  // Numbers by value, words by the alphabet.
  const by = (column, sign = 1) => (one, other) => {
    const [a, b] = [one, other].map((row) => row.cells[column].dataset.sort ?? text(row.cells[column]));
    if (a === "" || b === "") return (a === "") - (b === "");
    const difference = Number(a) - Number(b);
    return sign * (Number.isNaN(difference) ? a.localeCompare(b) : difference);
  };

  const sortBy = (table, column) => {
    const heads = headsOf(table);
    const down = heads[column].getAttribute("aria-sort") === "ascending";
    heads.forEach((head) => head.removeAttribute("aria-sort"));
    heads[column].setAttribute("aria-sort", down ? "descending" : "ascending");
    table.tBodies[0].append(...rowsOf(table).sort(by(column, down ? -1 : 1)));
    const box = table.closest(".xai-scroll");
    if (box) box.scrollTop = 0;
  };

  const addButtons = (table) => {
    headsOf(table).forEach((head, column) => {
      const button = make("button", { type: "button", textContent: head.textContent });
      button.addEventListener("click", () => sortBy(table, column));
      head.replaceChildren(button);
    });
    const inOrder = (row, i, rows) => i === 0 || by(0)(rows[i - 1], row) <= 0;
    if (rowsOf(table).every(inOrder)) headsOf(table)[0].setAttribute("aria-sort", "ascending");
  };

  const choice = (table, title, start) => {
    const column = headsOf(table).findIndex((head) => head.textContent.trim() === title);
    const name = title.toLowerCase();
    const value = (row) => row.dataset[name] ?? text(row.cells[column]);
    const options = [...new Set(rowsOf(table).map(value))].map((each) => new Option(each));
    const select = make("select", { name }, new Option("all", ""), ...options);
    select.value = start;
    const accepts = (row) => !select.value || value(row) === select.value;
    return { select, accepts, label: make("label", {}, `${title} `, select) };
  };

  const addFilters = (table, filters) => {
    const rows = rowsOf(table);
    const choices = filters.map(([title, start]) => choice(table, title, start));
    const count = make("output", {});
    const filter = () => {
      for (const row of rows) row.hidden = !choices.every((each) => each.accepts(row));
      const shown = rows.filter((row) => !row.hidden).length;
      count.textContent = `${shown} of ${rows.length} ${table.dataset.noun ?? "rows"}`;
    };
    choices.forEach(({ select }) => select.addEventListener("change", filter));
    const form = make("div", { className: "xai-filter" }, ...choices.map((c) => c.label), count);
    (table.closest(".xai-scroll") ?? table).before(form);
    filter();
  };

  for (const table of document.querySelectorAll("table.xai-sortable:not(.sortable)")) {
    table.classList.add("sortable");
    addButtons(table);
    const filters = Object.entries(JSON.parse(table.dataset.filters ?? "{}"));
    if (filters.length) addFilters(table, filters);
  }
}
