"use strict";
// The table of all targets: filtered here, and shown a hundred at a time. Without this, its first rows are there.
(() => {
  const { took, rows: step, targets } = JSON.parse(document.getElementById("data").textContent);
  const get = (id) => document.getElementById(id);
  const [body, more, shown, find, outcome, wave, order] = ["rows", "more", "shown", "find", "outcome", "wave", "order"].map(get);
  const words = targets.map(([name, account, , ending, , why]) => `${name} ${account} ${ending} ${why ?? ""}`.toLowerCase());
  let found = [];
  let count = 0;

  const make = (tag, name, text) => {
    const element = document.createElement(tag);
    if (name) element.className = name;
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const span = (seconds) => {
    const parts = [[3600, "h"], [60, "m"], [1, "s"]];
    let rest = Math.floor(seconds);
    const told = parts.map(([size, unit]) => {
      const whole = Math.floor(rest / size);
      rest -= whole * size;
      return whole ? `${whole}${unit}` : "";
    });
    return told.filter(Boolean).join(" ") || "0s";
  };

  const row = ([name, account, waveNumber, ending, spans, why, hint, events, all, length]) => {
    const line = make("tr", ending);
    const head = make("th", "", name);
    head.scope = "row";
    if (why || events.length) {
      const details = make("details");
      details.append(make("summary", why ? "why" : "", why ?? `${all} events`));
      if (hint) details.append(make("p", "hint", hint));
      // Made when it is looked at: most never are.
      details.addEventListener("toggle", () => {
        if (!events.length || details.querySelector("ul")) return;
        const list = make("ul", "events");
        for (const [at, resource, status, reason] of events) {
          list.append(make("li", "", `+${span(at)} ${resource} ${status}${reason ? `: ${reason}` : ""}`));
        }
        if (all > events.length) list.append(make("li", "", `${all - events.length} of ${all} events are left out here`));
        details.append(list);
      });
      head.append(details);
    }
    const time = make("td", "time");
    for (const [from, to, verifies] of spans) {
      const bar = make("i", verifies ? "verifying" : "executing");
      bar.style.left = `${(from / took) * 100}%`;
      bar.style.width = `${Math.max(((to - from) / took) * 100, 0.4)}%`;
      const told = `${verifies ? "verifying" : "executing"} from +${span(from)} for ${span(to - from)}; `;
      bar.title = told;
      time.append(bar, make("span", "told", told));
    }
    line.append(head, make("td", "", account), make("td", "", waveNumber + 1), make("td", "outcome", ending), make("td", "", length), time);
    return line;
  };

  const extend = () => {
    body.append(...found.slice(count, count + step).map(row));
    count = Math.min(count + step, found.length);
    more.hidden = count === found.length;
    shown.textContent = `${count} of ${found.length} shown${found.length < targets.length ? `, ${targets.length} in all` : ""}`;
  };
  const filter = () => {
    const wanted = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    found = targets.filter((target, number) =>
      (!outcome.value || target[3] === outcome.value) && (!wave.value || target[2] === Number(wave.value)) && wanted.every((word) => words[number].includes(word)));
    if (order.value) found.sort((one, other) => one[2] - other[2] || (one[4][0]?.[0] ?? Infinity) - (other[4][0]?.[0] ?? Infinity));
    body.replaceChildren();
    count = 0;
    extend();
  };

  get("filter").hidden = false;
  get("filter").addEventListener("submit", (event) => event.preventDefault());
  get("rest")?.remove();
  find.addEventListener("input", filter);
  for (const choice of [outcome, wave, order]) choice.addEventListener("change", filter);
  more.addEventListener("click", () => {
    const last = body.lastElementChild;
    extend();
    // Whoever goes by keyboard goes on where the new rows begin.
    const next = last?.nextElementSibling?.firstElementChild;
    if (next) { next.tabIndex = -1; next.focus(); }
  });
  filter();
})();
