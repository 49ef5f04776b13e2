"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const PAGE = 100;
  const MAX_TICKS = 6;
  const state = { sort: 0, down: true, shown: PAGE, group: null };

  // Everything that comes from the data goes into the page as text.
  const make = (name, text = "", more = {}) => Object.assign(document.createElement(name), { textContent: text, ...more });
  const count = (n) => n.toLocaleString("en");

  // --- the table of groups

  // A cell is a text and its sort key; the data has a count as a number, and an empty cell as null.
  for (const group of data.groups) {
    group.cells = group.cells.map((cell) => (Array.isArray(cell) ? cell : [cell === null ? "" : count(cell), cell]));
  }
  const value = (group) => (state.sort < 0 ? group.name : group.cells[state.sort][1]);
  const compare = (a, b) => {
    const [x, y] = [value(a), value(b)];
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
      const cell = make("th", "", { scope: "col", ariaSort: !sorted ? "none" : state.down ? "descending" : "ascending" });
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
      const head = make("th", "", { scope: "row" });
      const button = make("button", group.name || "(no name)", { type: "button", title: group.name });
      button.addEventListener("click", () => choose(group, true));
      head.append(button);
      row.append(head, ...group.cells.map((cell) => make("td", cell[0])));
      if (group === state.group) {
        row.dataset.chosen = "";
        button.ariaCurrent = "true";
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
    const shown = { showgrid: true, showline: true, zeroline: true, automargin: true };
    const axis = { gridcolor: colour("--line"), linecolor: colour("--line"), zerolinecolor: colour("--line"), ...shown };
    return {
      template: { layout: { xaxis: axis, yaxis: axis } },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: colour("--text"), family: "system-ui, sans-serif", size: 12 },
      margin: { l: 8, r: 12, t: touched ? 56 : 28, b: 8 },
      dragmode: touched ? false : "zoom",
      hoverlabel: { bgcolor: colour("--card"), font: { color: colour("--text") } },
      modebar: { color: colour("--quiet"), activecolor: colour("--accent"), bgcolor: "rgba(0,0,0,0)" },
      ...more,
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
  const line = (ends) => ({ type: "line", line: { color: colour("--limit"), width: 1.5, dash: "dash" }, ...ends });
  const draw = (target, traces, more, label) => {
    const drawn = Plotly.react(target, traces, layout(more), config);
    Object.assign(target, { role: "img", ariaLabel: label, drawn });
  };

  const drawBars = (target, found, what) => {
    const [counts, indexes, levels] = found;
    const edges = indexes.map((index) => data.texts[index]);
    const labels = counts.map((_, index) => `${edges[index]} to ${edges[index + 1]}`);
    let step = 1;
    while (counts.length / step > MAX_TICKS) step *= 2;
    const ticks = [...edges.keys()].filter((index) => index % step === 0);
    const trace = {
      type: "bar",
      x0: 0.5,
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
      shapes: levels.map(([at]) => line({ x0: at, x1: at, y0: 0, y1: 1, yref: "paper" })),
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
      shapes: limit.map((at) => line({ x0: 0, x1: 1, xref: "paper", y0: at, y1: at })),
      annotations: limit.map((at) => ({ x: 1, xref: "paper", xanchor: "right", y: at, yanchor: "bottom", showarrow: false, text: "limit", font: { color: colour("--limit") } })),
    }, `${panel.title} of call ${call.name} over ${call.duration}: at most ${panel.top}`);
  };

  // --- one group, one call

  const list = (target, pairs) => {
    target.replaceChildren(...pairs.map(([title, text]) => {
      const part = make("div");
      part.append(make("dt", title), make("dd", text));
      return part;
    }));
  };
  const choose = (group, jump) => {
    state.group = group;
    drawRows();
    $("group").hidden = false;
    $("group-title").textContent = `${data.by} ${group.name}`;
    const summary = group.summary.map(([title, text]) => [data.texts[title], data.texts[text]]);
    const advice = summary.find(([title]) => title === "right size");
    const sized = group.cells[data.columns.indexOf("right size")][1] !== null;
    $("advice").textContent = advice ? `Right size: ${advice[1]}` : "";
    $("advice").className = sized ? "" : "none";
    list($("summary"), summary.filter((pair) => pair !== advice));
    const calls = data.calls.filter((call) => data.groups[call.group] === group);
    $("calls").hidden = !data.calls.length;
    $("calls-title").textContent = calls.length ? `Heaviest calls of ${group.name}` : `No call of ${group.name} is among the heaviest`;
    const optionText = (call) => `${call.name} \u2013 ${[call.peak, call.duration].filter(Boolean).join(", ")}`;
    $("call").replaceChildren(...calls.map((call) => new Option(optionText(call), data.calls.indexOf(call))));
    $("call").parentElement.hidden = !calls.length;
    for (const id of ["before", "after"]) $(id).hidden = calls.length < 2;
    redraw();
    if (jump) {
      $("group-title").focus({ preventScroll: true });
      $("group").scrollIntoView({ block: "start" });
    }
  };
  const drawCall = () => {
    // A chart that is still being drawn must not lose what it is drawn from.
    for (const chart of $("panels").querySelectorAll(".chart")) chart.drawn.finally(() => Plotly.purge(chart));
    const call = data.calls[$("call").value] ?? { facts: [], panels: [] };
    $("before").disabled = $("call").selectedIndex <= 0;
    $("after").disabled = $("call").selectedIndex >= $("call").options.length - 1;
    list($("facts"), call.facts);
    const charts = call.panels.map((panel) => {
      const figure = make("figure");
      figure.append(make("figcaption", panel.title), make("div", "", { className: "chart" }));
      return figure;
    });
    $("panels").replaceChildren(...charts);
    call.panels.forEach((panel, index) => drawPanel(charts[index].lastChild, panel, call));
  };

  // --- the page

  const redraw = () => {
    if (!state.group) return;
    drawBars($("memory-bars"), state.group.memory, "Peak memory");
    drawBars($("duration-bars"), state.group.duration, "Duration");
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
  for (const [id, by] of [["before", -1], ["after", 1]]) {
    $(id).addEventListener("click", () => {
      $("call").selectedIndex += by;
      drawCall();
    });
  }
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
