"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const PAGE = 100;
  const MAX_TICKS = 6;
  const state = { sort: data.columns.findIndex(([title]) => title === "waste"), down: true, shown: PAGE, group: null, call: null, printing: false };

  // Everything that comes from the data goes into the page as text.
  const make = (name, text = "", more = {}) => Object.assign(document.createElement(name), { textContent: text, ...more });
  const count = (n) => n.toLocaleString("en");

  const floats = ({ bdata }) => new Float32Array(Uint8Array.from(atob(bdata), (c) => c.charCodeAt(0)).buffer);

  // --- the table of groups

  // A cell is a text and its sort key; the data has a count as a number, and an empty cell as null.
  for (const group of data.groups) {
    group.lower = group.name.toLowerCase();
    group.cells = [[group.mark + data.findings[group.finding], group.finding || null], null, ...group.cells].map((cell) => (Array.isArray(cell) ? cell : [cell === null ? "" : count(cell), cell]));
  }
  const [FINDING, SPARK] = [0, 1];
  const collator = new Intl.Collator("en", { numeric: true });
  const value = (group) => (state.sort < 0 ? group.name : group.cells[state.sort][1]);
  const compare = (a, b) => {
    const [x, y] = [value(a), value(b)];
    if (x === null || y === null) return (x === null) - (y === null);
    const order = typeof x === "string" ? collator.compare(x, y) : x - y;
    return state.down ? -order : order;
  };
  // The order holds until another heading is chosen, and each row is made once, so that a search only picks from them.
  let sorted = [...data.groups].sort(compare);
  const matching = () => {
    const asked = $("search").value.trim().toLowerCase();
    return sorted.filter((group) => group.lower.includes(asked));
  };

  const drawHead = () => {
    const row = make("tr");
    [[data.by, ""], ...data.columns].forEach(([title, tip], index) => {
      const column = index - 1;
      const isSorted = column === state.sort;
      const cell = make("th", "", { scope: "col" });
      row.append(cell);
      if (column === SPARK) return cell.append(make("span", title, { title: tip }));
      cell.ariaSort = !isSorted ? "none" : state.down ? "descending" : "ascending";
      const button = make("button", title + (isSorted ? (state.down ? "\u00a0\u25be" : "\u00a0\u25b4") : ""), { type: "button", title: tip });
      button.addEventListener("click", () => {
        state.down = isSorted ? !state.down : column >= 0;
        state.sort = column;
        sorted = [...data.groups].sort(compare);
        drawHead();
        drawRows();
        $("groups").tHead.rows[0].cells[index].firstChild.focus();
      });
      cell.append(button);
    });
    $("groups").tHead.replaceChildren(row);
  };

  const vector = (name, attributes) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, text] of Object.entries(attributes)) made.setAttribute(key, text);
    return made;
  };
  // A line of the p95 of peak memory, and the limit where it is near.
  const spark = (group) => {
    const { at, peaks, limits } = group.timeline;
    const cell = make("td");
    const tall = 18, wide = 70;
    const values = peaks ? floats(peaks) : [];
    const known = [...values.keys()].filter((index) => !Number.isNaN(values[index]));
    if (known.length < 2) return cell;
    const caps = floats(limits);
    const top = Math.max(...known.map((index) => Math.max(values[index], caps[index] || 0)));
    const x = (index) => ((at[index] - at[known[0]]) / (at[known.at(-1)] - at[known[0]])) * (wide - 2) + 1;
    const path = (from, all) => all.map((index, i) => `${i ? "L" : "M"}${x(index).toFixed(1)} ${(tall - 1 - (from[index] / top) * (tall - 2)).toFixed(1)}`).join("");
    const svg = vector("svg", { viewBox: `0 0 ${wide} ${tall}`, width: wide, height: tall, "aria-hidden": "true" });
    svg.append(vector("path", { class: "spark cap", d: path(caps, known.filter((index) => caps[index] > 0)) }));
    svg.append(vector("path", { class: "spark", d: path(values, known) }));
    cell.append(svg);
    return cell;
  };

  const rowOf = (group) => {
    if (!group.row) {
      const row = make("tr");
      const head = make("th", "", { scope: "row" });
      head.append(make("a", group.name || "(no name)", { href: hashOf(group), title: group.name }));
      row.append(head, ...group.cells.map((cell, index) => (index === SPARK ? spark(group) : make("td", cell[0]))));
      const told = make("span", group.cells[FINDING][0], { className: "finding" });
      told.dataset.finding = group.finding;
      row.children[FINDING + 1].replaceChildren(told);
      group.row = row;
    }
    group.row.toggleAttribute("data-chosen", group === state.group);
    group.row.querySelector("a").ariaCurrent = group === state.group ? "true" : null;
    return group.row;
  };

  const drawRows = () => {
    const found = matching();
    const rows = found.slice(0, state.shown).map(rowOf);
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
      font: { color: colour("--text"), family: "system-ui, sans-serif", size: state.printing ? 9 : 12 },
      margin: { l: 8, r: touched ? 12 : 34, t: touched ? 56 : 28, b: 8 },
      dragmode: touched ? false : "zoom",
      hoverlabel: { bgcolor: colour("--card"), font: { color: colour("--text") } },
      modebar: { orientation: touched ? "h" : "v", color: colour("--quiet"), activecolor: colour("--accent"), bgcolor: "rgba(0,0,0,0)" },
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
    // Words stand where a chart would be empty.
    target.hidden = !traces.length;
    target.parentElement.querySelector(".hint")?.remove();
    if (target.hidden) return target.after(make("p", "Not known of any call.", { className: "hint" }));
    const size = state.printing && { width: target.clientWidth, height: target.clientHeight };
    const drawn = Plotly.react(target, traces, layout({ ...more, ...size }), config);
    // Its buttons can be reached; to a screen reader the drawing is its label.
    Object.assign(target, { role: "group", ariaLabel: label, drawn });
    for (const svg of target.querySelectorAll(".main-svg")) svg.ariaHidden = "true";
  };
  // A zoom of one chart is that of all of them.
  const link = (all) => {
    const charts = all.filter((chart) => !chart.hidden);
    for (const chart of charts) {
      chart.removeAllListeners("plotly_relayout");
      chart.on("plotly_relayout", (change) => {
        if (chart.following) return;
        const [from, to] = change["xaxis.range"] ?? [change["xaxis.range[0]"], change["xaxis.range[1]"]];
        const wanted = change["xaxis.autorange"] ? { "xaxis.autorange": true } : from === undefined ? null : { "xaxis.range": [from, to] };
        if (wanted === null) return;
        for (const other of charts.filter((one) => one !== chart)) {
          other.following = true;
          Plotly.relayout(other, wanted).finally(() => (other.following = false));
        }
      });
    }
  };

  const drawBars = (target, found, what) => {
    const [counts, indexes, levels] = found;
    const edges = indexes.map((index) => data.texts[index]);
    const bins = Math.max(edges.length - 1, 0);
    const labels = [...Array(bins).keys()].map((index) => `${edges[index]} to ${edges[index + 1]}`);
    const words = edges.map((edge) => (edge.length > 12 ? edge.replace(" min ", " min<br>") : edge));
    const longest = Math.max(...words.flatMap((word) => word.split("<br>")).map((part) => part.length));
    const room = target.clientWidth / (8 * longest); // labels of 8 pixels a letter beside each other
    let step = 1;
    while (bins / step > Math.max(2, Math.min(MAX_TICKS, room))) step *= 2;
    const ticks = [...edges.keys()].filter((index) => index % step === 0);
    const last = Math.max(bins, ...levels.map(([at]) => at * 1.04), 1);
    const annotations = levels.map(([at, text], index) => ({
      x: at, y: 1, yref: "paper", yanchor: "bottom", showarrow: false, text,
      xanchor: at > last / 2 ? "right" : "left", yshift: index * 14, font: { color: colour("--limit") },
    }));
    const total = totals(counts, bins);
    const fullest = total.indexOf(Math.max(...total));
    draw(target, stacked(counts, { x0: 0.5, customdata: labels, width: 1 }, "%{customdata}: %{y} "), {
      showlegend: false,
      barmode: "stack",
      margin: { l: 8, r: touched ? 12 : 34, t: (touched ? 56 : 28) + 14 * Math.max(levels.length - 1, 0), b: 8 },
      xaxis: { range: [0, last], tickvals: ticks, ticktext: ticks.map((index) => words[index]), tickangle: 0 },
      yaxis: callsAxis(total),
      shapes: levels.map(([at]) => line({ x0: at, x1: at, y0: 0, y1: 1, yref: "paper" })),
      annotations,
    }, `${what}: most calls, ${total[fullest]}, have ${labels[fullest]}; ${levels.map(([, text]) => text).join(", ")}`);
  };
  const totals = (counts, bins) => [...Array(bins).keys()].map((index) => counts.reduce((sum, one) => sum + (one[index] ?? 0), 0));
  // There is no half of a call.
  const callsAxis = (total) => ({ title: { text: "calls" }, rangemode: "tozero", ...(Math.max(...total) < MAX_TICKS && { dtick: 1 }) });
  const stacked = (counts, shared, hover) => counts.flatMap((y, index) => (y.length ? [{
    type: "bar",
    y,
    ...shared,
    name: data.outcomes[index][0],
    marker: { color: data.outcomes[index][1], line: { color: colour("--card"), width: 1 } },
    hovertemplate: `${hover}${data.outcomes[index][0]}<extra></extra>`,
  }] : []));

  const drawTimeline = () => {
    const { step, ms, start, at, counts, peaks, limits, unit, durations, time_unit } = state.group.timeline;
    $("timeline").hidden = !at;
    if (!at) return;
    const x = at.map((index) => start + (index + 0.5) * ms);
    const clock = { minute: " %H:%M UTC", hour: " %H:00 UTC" }[step];
    const day = (time) => new Date(time).toISOString().slice(0, clock ? 16 : 10).replace("T", " ");
    const span = `from ${day(start)} to ${day(start + (at.at(-1) + 1) * ms - 1)} UTC`;
    const dates = {
      xaxis: { type: "date", range: [start, start + (at.at(-1) + 1) * ms], hoverformat: `%Y-%m-%d${clock ?? ""}`, nticks: state.printing ? 4 : 6, ...(!clock && at.at(-1) < MAX_TICKS && { dtick: 86_400_000 }), tickangle: 0 },
      hovermode: "x unified",
      showlegend: false,
    };
    const known = (values) => [...floats(values)].filter((number) => !Number.isNaN(number));
    const short = (number) => Number(number.toPrecision(4));
    const top = (values) => short(Math.max(...known(values)));
    const lined = (y, name, hover, more) => (known(y).length ? [{ type: "scatter", mode: "lines+markers", x, y, name, marker: { size: 5 }, line: { color: data.outcomes[0][1], width: 2 }, hovertemplate: hover, ...more }] : []);
    const dashed = { mode: "lines", line: { color: colour("--limit"), width: 1.5, dash: "dash", shape: "hvh" } };
    const charts = ["day-calls", "day-memory", "day-duration"].map($);
    const titles = [`Calls by ${step}`, `Peak memory by ${step}, p95 and limit`, `Duration by ${step}, p95`];
    titles.forEach((title, index) => (charts[index].previousElementSibling.textContent = title));
    draw(charts[0], stacked(counts, { x, width: ms }, "%{y} "), {
      ...dates, barmode: "stack", yaxis: callsAxis(totals(counts, at.length)),
    }, `${titles[0]} ${span}: ${counts.map((y, index) => `${y.reduce((a, b) => a + b, 0)} ${data.outcomes[index][0]}`).join(", ")}`);
    draw(charts[1], [...lined(peaks, "p95", `%{y:.4~r} ${unit}<extra></extra>`), ...lined(limits, "limit", `limit %{y:.4~r} ${unit}<extra></extra>`, dashed)], {
      ...dates, yaxis: { title: { text: unit }, rangemode: "tozero" },
    }, `${titles[1]} ${span}: at most ${top(peaks)} ${unit}`);
    draw(charts[2], lined(durations, "p95", `%{y:.4~r} ${time_unit}<extra></extra>`), {
      ...dates, yaxis: { title: { text: time_unit }, rangemode: "tozero" },
    }, `${titles[2]} ${span}: at most ${top(durations)} ${time_unit}`);
    link(charts);
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
      xaxis: { title: { text: call.unit }, rangemode: "tozero", autorangeoptions: { minallowed: 0, maxallowed: call.end }, unifiedhovertitle: { text: `%{x:.4~r} ${call.unit}` } },
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
  // The address after the # is a name, or a name and a call, so that Back, bookmarks and links work.
  const hashOf = (group, call) => `#${encodeURIComponent(group.name)}${call ? `/${encodeURIComponent(call.name)}` : group.name ? "" : "/"}`;
  const asked = () => {
    let texts = [location.hash.slice(1)];
    try {
      texts = texts[0].split("/").map(decodeURIComponent);
    } catch {} // no text in UTF-8
    const [name, call] = texts;
    const group = location.hash ? data.groups.find((one) => one.name === name) : undefined;
    const found = data.calls.find((one) => one.name === call && data.groups[one.group] === group);
    if (location.hash && !group) return [group, found, `This page has no name ${name}.`];
    return [group, found, call && !found ? `This page has no call ${call} of ${name}: it has the heaviest calls.` : ""];
  };
  const follow = () => {
    const [group = matching()[0], call, absent] = asked();
    $("absent").textContent = absent;
    $("absent").hidden = !absent;
    if (!group) return;
    if (group !== state.group) choose(group, location.hash !== "" && !absent);
    const calls = callsOf(group);
    if (state.call !== (call ?? calls[0])) showCall(call ?? calls[0]);
  };
  const callsOf = (group) => data.calls.filter((call) => data.groups[call.group] === group);
  const mark = (target, text, kind, value) => {
    target.textContent = text;
    target.dataset[kind] = value;
  };

  const choose = (group, jump) => {
    state.group = group;
    drawRows();
    $("group").hidden = false;
    $("group-title").textContent = group.name || "(no name)";
    mark($("finding"), group.mark + data.findings[group.finding], "finding", group.finding);
    $("count").textContent = group.count;
    const summary = group.summary.map(([title, text]) => [data.texts[title], data.texts[text]]);
    const [advice, covered] = ["right size", "covers"].map((wanted) => summary.find(([title]) => title === wanted));
    const sized = group.cells[data.columns.findIndex(([title]) => title === "right size")][1] !== null;
    const [size, ...rest] = (advice?.[1] ?? "").split(": ");
    $("advice").replaceChildren(...(advice ? ["Right size: ", make(sized ? "strong" : "span", size), rest.length ? `: ${rest.join(": ")}` : ""] : []));
    $("covered").textContent = covered?.[1] ?? "";
    list($("summary"), summary.filter((pair) => pair !== advice && pair !== covered));
    const calls = callsOf(group);
    $("calls").hidden = !data.calls.length;
    $("calls-title").textContent = calls.length ? `Heaviest calls of ${group.name}` : `No call of ${group.name} is among the heaviest`;
    const optionText = (call) => `${call.name} \u2013 ${[call.peak, call.duration, call.outcome && data.outcomes[call.outcome][0]].filter(Boolean).join(", ")}`;
    $("call").replaceChildren(...calls.map((call) => new Option(optionText(call), data.calls.indexOf(call))));
    $("call").parentElement.hidden = !calls.length;
    for (const id of ["before", "after"]) $(id).hidden = calls.length < 2;
    drawGroup();
    if (!calls.length) showCall(undefined);
    if (jump) {
      $("group-title").focus({ preventScroll: true });
      $("group").scrollIntoView({ block: "start" });
    }
  };
  const showCall = (call) => {
    state.call = call;
    $("call").value = call ? data.calls.indexOf(call) : "";
    $("before").disabled = $("call").selectedIndex <= 0;
    $("after").disabled = $("call").selectedIndex >= $("call").options.length - 1;
    mark($("outcome"), call?.outcome ? data.outcomes[call.outcome][0] : "", "outcome", call?.outcome ?? 0);
    list($("facts"), call?.facts ?? []);
    drawCall();
  };
  const drawCall = () => {
    // A chart that is still being drawn must not lose what it is drawn from.
    for (const chart of $("panels").querySelectorAll(".chart")) chart.drawn.finally(() => Plotly.purge(chart));
    const panels = state.call?.panels ?? [];
    const figures = panels.map((panel) => {
      const figure = make("figure");
      figure.append(make("figcaption", panel.title), make("div", "", { className: "chart" }));
      return figure;
    });
    $("panels").replaceChildren(...figures);
    panels.forEach((panel, index) => drawPanel(figures[index].lastChild, panel, state.call));
    link(figures.map((figure) => figure.lastChild));
  };
  const drawGroup = () => {
    drawTimeline();
    drawBars($("memory-bars"), state.group.memory, "Peak memory");
    drawBars($("duration-bars"), state.group.duration, "Duration");
  };

  // --- the page

  const redraw = () => {
    if (!state.group) return;
    drawGroup();
    drawCall();
  };
  $("notes").replaceChildren(...data.notes.map((note) => make("li", note)));
  $("key").replaceChildren(...data.outcomes.map(([name, color]) => {
    const item = make("li", name);
    item.style.setProperty("--outcome", color);
    return item;
  }));
  list($("columns"), data.columns);
  $("search").addEventListener("input", () => {
    state.shown = PAGE;
    drawRows();
  });
  $("more").addEventListener("click", () => {
    state.shown = Infinity;
    drawRows();
  });
  const go = () => {
    location.hash = hashOf(state.group, data.calls[$("call").value]);
    follow();
  };
  $("call").addEventListener("change", go);
  for (const [id, by] of [["before", -1], ["after", 1]]) {
    $(id).addEventListener("click", () => {
      $("call").selectedIndex += by;
      go();
    });
  }
  const theme = () => {
    document.documentElement.dataset.theme = state.printing ? "light" : $("theme").value;
    redraw();
  };
  $("theme").addEventListener("change", theme);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  // On paper charts are as wide as the page, and light.
  for (const [event, printing] of [["beforeprint", true], ["afterprint", false]]) {
    addEventListener(event, () => {
      state.printing = printing;
      document.documentElement.toggleAttribute("data-printing", printing);
      if (window.Plotly) theme();
      if (!printing) for (const chart of document.querySelectorAll(".js-plotly-plot:not([hidden], [hidden] *)")) Plotly.Plots.resize(chart);
    });
  }
  drawHead();
  drawRows();
  // Plotly is packed, and comes after this script, so that the table need not wait for it.
  document.addEventListener("DOMContentLoaded", async () => {
    try {
      const packed = atob($("plotly").textContent);
      const bytes = new Uint8Array(packed.length);
      for (let i = 0; i < packed.length; i++) bytes[i] = packed.charCodeAt(i); // from() would call a function for each
      const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
      document.head.append(make("script", await new Response(stream).text()));
    } catch {
      $("old").hidden = false;
      return;
    }
    follow();
    addEventListener("hashchange", follow);
    document.documentElement.dataset.ready = "";
  });
})();
