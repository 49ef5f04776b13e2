"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const PAGE = 100;
  const MAX_TICKS = 6;
  const state = { sort: 0, down: true, shown: PAGE, group: null };

  // Everything that comes from the data goes into the page as text.
  const make = (name, text, attributes = {}) => {
    const node = document.createElement(name);
    if (text !== undefined) node.textContent = text;
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    return node;
  };
  const count = (n) => n.toLocaleString("en");

  // --- the table of groups

  const value = (group, column) => {
    if (column < 0) return group.name;
    const cell = group.cells[column];
    return Array.isArray(cell) ? cell[1] : cell;
  };
  const cellText = (cell) => (cell === null ? "" : Array.isArray(cell) ? cell[0] : count(cell));
  const compare = (a, b) => {
    const [x, y] = [value(a, state.sort), value(b, state.sort)];
    if (x === null || y === null) return (x === null) - (y === null);
    const order = typeof x === "string" ? x.localeCompare(y, "en", { numeric: true }) : x - y;
    return state.down ? -order : order;
  };
  const matching = () => {
    const asked = $("search").value.trim().toLowerCase();
    return data.groups.filter((group) => group.name.toLowerCase().includes(asked)).sort(compare);
  };

  const drawHead = () => {
    const row = make("tr");
    [data.by, ...data.columns].forEach((title, index) => {
      const column = index - 1;
      const sorted = column === state.sort;
      const cell = make("th", undefined, { scope: "col", "aria-sort": !sorted ? "none" : state.down ? "descending" : "ascending" });
      const button = make("button", title + (sorted ? (state.down ? "\u00a0\u25be" : "\u00a0\u25b4") : ""), { type: "button" });
      button.addEventListener("click", () => {
        state.down = sorted ? !state.down : column >= 0;
        state.sort = column;
        drawHead();
        drawRows();
        $("groups").tHead.querySelectorAll("button")[index].focus();
      });
      cell.append(button);
      row.append(cell);
    });
    $("groups").tHead.replaceChildren(row);
  };

  const drawRows = () => {
    const found = matching();
    const rows = found.slice(0, state.shown).map((group) => {
      const row = make("tr");
      const head = make("th", undefined, { scope: "row" });
      const button = make("button", group.name || "(no name)", { type: "button", title: group.name });
      button.addEventListener("click", () => choose(group, true));
      head.append(button);
      row.append(head, ...group.cells.map((cell) => make("td", cellText(cell))));
      if (group === state.group) {
        row.dataset.chosen = "";
        button.setAttribute("aria-current", "true");
      }
      return row;
    });
    $("groups").tBodies[0].replaceChildren(...rows);
    const more = found.length - rows.length;
    const all = found.length < data.groups.length ? `${count(found.length)} of ${count(data.groups.length)} match` : `${count(found.length)} in all`;
    $("found").textContent = more > 0 ? `${all}, ${count(rows.length)} shown` : all;
    $("more").hidden = more <= 0;
    $("more").textContent = `Show ${count(more)} more`;
  };

  // --- charts

  // A finger that is dragged scrolls the page; there the buttons zoom, and stay in sight.
  const touched = matchMedia("(pointer: coarse)").matches;
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const layout = (more) => {
    const axis = { gridcolor: colour("--line"), linecolor: colour("--line"), zerolinecolor: colour("--line"), automargin: true };
    const { xaxis, yaxis, ...rest } = more;
    return {
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: colour("--text"), family: "system-ui, sans-serif", size: 12 },
      margin: { l: 8, r: 12, t: touched ? 56 : 28, b: 8 },
      dragmode: touched ? false : "zoom",
      hoverlabel: { bgcolor: colour("--card"), font: { color: colour("--text") } },
      modebar: { color: colour("--quiet"), activecolor: colour("--accent"), bgcolor: "rgba(0,0,0,0)" },
      xaxis: { ...axis, ...xaxis },
      yaxis: { ...axis, ...yaxis },
      ...rest,
    };
  };
  const config = {
    responsive: true,
    displayModeBar: touched ? true : "hover",
    displaylogo: false,
    // These and no other: Plotly has one that sends a chart away.
    modeBarButtons: [["toImage"], ["zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d"]],
    plotlyServerURL: "",
    showTips: false,
  };
  const level = (at, vertical) => ({
    type: "line",
    [vertical ? "xref" : "yref"]: vertical ? "x" : "y",
    [vertical ? "yref" : "xref"]: "paper",
    ...(vertical ? { x0: at, x1: at, y0: 0, y1: 1 } : { x0: 0, x1: 1, y0: at, y1: at }),
    line: { color: colour("--limit"), width: 1.5, dash: "dash" },
  });
  const draw = (target, traces, more, label) => {
    target.setAttribute("role", "img");
    target.setAttribute("aria-label", label);
    target.drawn = Plotly.react(target, traces, layout(more), config);
  };

  const drawBars = (target, found, what) => {
    const [counts, indexes, levels] = found;
    const edges = indexes.map((index) => data.texts[index]);
    const labels = counts.map((_, index) => `${edges[index]} to ${edges[index + 1]}`);
    let step = 1;
    while (counts.length / step > MAX_TICKS) step *= 2;
    const ticks = edges.map((_, index) => index).filter((index) => index % step === 0);
    const trace = {
      type: "bar",
      x: counts.map((_, index) => index + 0.5),
      y: counts,
      customdata: labels,
      width: 1,
      marker: { color: data.color, line: { color: colour("--card"), width: 1 } },
      hovertemplate: "%{customdata}: %{y} calls<extra></extra>",
    };
    const last = Math.max(counts.length, ...levels.map(([at]) => at * 1.04), 1);
    const annotations = levels.map(([at, text], index) => ({
      x: at, y: 1, yref: "paper", yanchor: "bottom", showarrow: false, text,
      xanchor: at > last / 2 ? "right" : "left", yshift: index * 14, font: { color: colour("--limit") },
    }));
    const fullest = counts.indexOf(Math.max(...counts));
    draw(target, counts.length ? [trace] : [], {
      showlegend: false,
      margin: { l: 8, r: 12, t: (touched ? 56 : 28) + 14 * Math.max(levels.length - 1, 0), b: 8 },
      xaxis: { range: [0, last], tickvals: ticks, ticktext: ticks.map((index) => edges[index]), tickangle: 0 },
      yaxis: { title: { text: "calls" }, rangemode: "tozero" },
      shapes: levels.map(([at]) => level(at, true)),
      annotations,
    }, `${what}: ${counts.length ? `most calls, ${counts[fullest]}, have ${labels[fullest]}` : "not known of any call"}; ${levels.map(([, text]) => text).join(", ")}`);
  };

  const drawPanel = (target, panel, call) => {
    const limit = panel.limit === null ? [] : [panel.limit];
    const traces = panel.traces.map((trace) => ({ ...trace })); // Plotly hides a line in the trace itself
    const two = touched && traces.filter((trace) => trace.showlegend !== false).length > 2;
    draw(target, traces, {
      ...(two && { margin: { l: 8, r: 12, t: 84, b: 8 } }), // the legend has two lines below the buttons
      hovermode: "x unified",
      showlegend: true,
      legend: { orientation: "h", y: 1, yanchor: "bottom", x: 0, font: { size: 12 } },
      xaxis: { title: { text: call.unit }, rangemode: "tozero", unifiedhovertitle: { text: `%{x} ${call.unit}` } },
      yaxis: { title: { text: panel.unit }, rangemode: "tozero" },
      shapes: limit.map((at) => level(at, false)),
      annotations: limit.map((at) => ({ x: 1, xref: "paper", xanchor: "right", y: at, yanchor: "bottom", showarrow: false, text: "limit", font: { color: colour("--limit") } })),
    }, `${panel.title} of call ${call.name} over ${call.duration}: at most ${panel.top}`);
  };

  // --- one group, one call

  const list = (target, pairs, together) => {
    target.replaceChildren(...pairs.flatMap(([title, text]) => {
      const parts = [make("dt", title), make("dd", text)];
      if (!together) return parts;
      const part = make("div");
      part.append(...parts);
      return [part];
    }));
  };
  const drawDistributions = () => {
    drawBars($("memory-bars"), state.group.memory, "Peak memory");
    drawBars($("duration-bars"), state.group.duration, "Duration");
  };
  const callsOf = (group) => {
    const index = data.groups.indexOf(group);
    return data.calls.filter((call) => call.group === index);
  };
  const choose = (group, jump) => {
    state.group = group;
    drawRows();
    $("group").hidden = false;
    $("group-title").textContent = `${data.by} ${group.name}`;
    const summary = group.summary.map(([title, text]) => [data.texts[title], text]);
    const advice = summary.find(([title]) => title === "right size");
    const sized = group.cells[data.columns.indexOf("right size")] !== null;
    $("advice").textContent = advice ? `Right size: ${advice[1]}` : "";
    $("advice").className = sized ? "" : "none";
    list($("summary"), summary.filter((pair) => pair !== advice), false);
    drawDistributions();
    const calls = callsOf(group);
    $("calls").hidden = !data.calls.length;
    $("calls-title").textContent = calls.length ? `Heaviest calls of ${group.name}` : `No call of ${group.name} is among the heaviest`;
    const options = calls.map((call) => {
      const option = make("option", `${call.name} \u2013 ${[call.peak, call.duration].filter(Boolean).join(", ")}`);
      option.value = String(data.calls.indexOf(call));
      return option;
    });
    $("call").replaceChildren(...options);
    $("call").parentElement.hidden = !calls.length;
    for (const id of ["before", "after"]) $(id).hidden = calls.length < 2;
    drawCall();
    if (jump) {
      $("group-title").focus({ preventScroll: true });
      $("group").scrollIntoView({ block: "start" });
    }
  };
  const drawCall = () => {
    // A chart that is still being drawn must not lose what it is drawn from.
    for (const chart of $("panels").querySelectorAll(".chart")) chart.drawn.finally(() => Plotly.purge(chart));
    const call = data.calls[$("call").value];
    $("before").disabled = $("call").selectedIndex <= 0;
    $("after").disabled = $("call").selectedIndex >= $("call").options.length - 1;
    if (!call || $("call").value === "") {
      $("panels").replaceChildren();
      list($("facts"), [], true);
      return;
    }
    list($("facts"), call.facts, true);
    const charts = call.panels.map((panel) => {
      const figure = make("figure");
      figure.append(make("figcaption", panel.title), make("div", undefined, { class: "chart" }));
      return figure;
    });
    $("panels").replaceChildren(...charts);
    call.panels.forEach((panel, index) => drawPanel(charts[index].lastChild, panel, call));
  };
  const step = (by) => {
    $("call").selectedIndex += by;
    drawCall();
  };

  // --- the page

  const redraw = () => {
    if (!state.group) return;
    drawDistributions();
    drawCall();
  };
  $("notes").replaceChildren(...data.notes.map((note) => make("li", note)));
  $("search").addEventListener("input", () => {
    state.shown = PAGE;
    drawRows();
  });
  $("more").addEventListener("click", () => {
    state.shown = Infinity;
    drawRows();
  });
  $("call").addEventListener("change", drawCall);
  $("before").addEventListener("click", () => step(-1));
  $("after").addEventListener("click", () => step(1));
  $("theme").addEventListener("change", () => {
    document.documentElement.dataset.theme = $("theme").value;
    redraw();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  drawHead();
  drawRows();
  // Plotly's script comes after this one, so that the table need not wait for it.
  document.addEventListener("DOMContentLoaded", () => {
    const first = matching()[0];
    if (first) choose(first, false);
    document.documentElement.dataset.ready = "";
  });
})();
