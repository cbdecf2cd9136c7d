"use strict";
// What people do with the page, done in a browser by its test; what came of it is written into the page.
(async () => {
  const get = (id) => document.getElementById(id);
  const rows = () => [...document.querySelectorAll("#rows > tr")];
  const shown = () => get("shown").textContent;
  const choose = (id, value, event) => {
    get(id).value = value;
    get(id).dispatchEvent(new Event(event));
  };
  const told = { dark: matchMedia("(prefers-color-scheme: dark)").matches, ready: Math.round(performance.now()), first: rows().length, all: shown() };

  choose("find", "T00003 eu-west", "input");
  told.found = rows().map((row) => row.cells[0].firstChild.textContent);
  choose("find", "no such tenant", "input");
  told.nothing = [rows().length, shown()];
  choose("find", "", "input");

  choose("outcome", "rolled-back", "change");
  told.failed = [shown(), rows().every((row) => row.cells[3].textContent === "rolled-back")];
  choose("outcome", "", "change");
  choose("wave", "0", "change");
  told.wave = rows().length;
  choose("wave", "", "change");
  choose("order", "time", "change");
  told.earliest = rows()[0].cells[0].firstChild.textContent;
  choose("order", "", "change");

  const details = rows()[0].querySelector("details");
  if (details) {
    details.open = true;
    details.dispatchEvent(new Event("toggle"));
    told.events = details.querySelectorAll(".events > li").length;
  }
  if (!get("more").hidden) {
    get("more").click();
    told.more = [rows().length, rows().indexOf(document.activeElement.closest("tr"))];
  }
  const where = document.documentElement;
  told.wide = where.scrollWidth > where.clientWidth;

  if (window.axe) {
    const { violations } = await axe.run(document, { preload: false });
    told.violations = violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html).join(" ")}`);
  }
  const text = document.createElement("pre");
  text.id = "told";
  text.textContent = JSON.stringify(told);
  document.body.append(text);
})();
