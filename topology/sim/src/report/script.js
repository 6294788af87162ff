// Niceties. Whatever they need is made here, so that without JavaScript nothing useless is shown.

// A filter for the timeline.
document.querySelectorAll("details.timeline").forEach(function (details) {
  var rows = Array.prototype.slice.call(details.querySelectorAll("tbody tr"));
  var label = document.createElement("label");
  var input = document.createElement("input");
  var shown = document.createElement("span");
  label.className = "filter";
  label.textContent = "Show only ";
  input.type = "search";
  input.placeholder = "a node, a name, a word";
  shown.setAttribute("role", "status");
  label.append(input, shown);
  details.querySelector("summary").after(label);
  input.addEventListener("input", function () {
    var words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    var count = 0;
    rows.forEach(function (row) {
      var text = row.textContent.toLowerCase();
      row.hidden = !words.every(function (word) { return text.includes(word); });
      count += row.hidden ? 0 : 1;
    });
    shown.textContent = words.length ? " " + count + " of " + rows.length : "";
  });
});

// A cursor over time: reads the plots and shows what was concerned at that moment, on the bars and on the map.
document.querySelectorAll("svg.time").forEach(function (chart) {
  var steps = Array.prototype.slice.call(chart.querySelectorAll(".step"));
  var end = Number(chart.dataset.end), left = Number(chart.dataset.left), right = Number(chart.dataset.right);
  if (!steps.length || !end) { return; }
  var line = document.createElementNS(chart.namespaceURI, "path");
  var controls = document.createElement("div");
  var label = document.createElement("label");
  var range = document.createElement("input");
  var words = document.createElement("p");
  var concerned = Array.prototype.slice.call(document.querySelectorAll("[data-spans]"));
  line.setAttribute("class", "cursor");
  chart.append(line);
  controls.className = "cursor-controls";
  label.textContent = "At ";
  range.type = "range";
  range.min = 0;
  range.max = end;
  range.step = Math.max(1, Math.min(100, Math.round(end / 1000)));
  range.value = 0;
  words.textContent = "Move over the plots, or drag, to read a moment here and on the map.";
  label.append(range);
  controls.append(label, words);
  chart.parentNode.after(controls);

  function isOn(element, at) {
    return element.dataset.spans.split(" ").some(function (span) {
      var ends = span.split("-");
      return Number(ends[0]) <= at && at < Number(ends[1]);
    });
  }
  function show(at) {
    var step = steps.find(function (step) { return at < Number(step.dataset.to); }) || steps[steps.length - 1];
    var box = chart.viewBox.baseVal;
    line.setAttribute("d", "M" + (left + at / end * (right - left)) + " 18V" + (box.height - 40));
    document.documentElement.classList.add("at-a-moment");
    concerned.forEach(function (element) { element.classList.toggle("is-now", isOn(element, at)); });
    words.textContent = step.querySelector("title").textContent;
    range.setAttribute("aria-valuetext", words.textContent);
  }
  function clear() {
    document.documentElement.classList.remove("at-a-moment");
    line.removeAttribute("d");
  }
  range.addEventListener("input", function () { show(Number(range.value)); });
  range.addEventListener("blur", clear);
  chart.addEventListener("pointermove", function (event) {
    var box = chart.getBoundingClientRect();
    var x = (event.clientX - box.left) / box.width * chart.viewBox.baseVal.width;
    var at = Math.round((x - left) / (right - left) * end);
    if (at < 0 || at > end) { return clear(); }
    range.value = at;
    show(at);
  });
  chart.addEventListener("pointerleave", clear);
  addEventListener("beforeprint", clear);
});

// The command, ready to paste. Clipboards are closed to some pages from files; then the text is there to select.
document.querySelectorAll(".command").forEach(function (command) {
  if (!navigator.clipboard) { return; }
  var button = document.createElement("button");
  button.type = "button";
  button.textContent = "Copy";
  button.addEventListener("click", function () {
    navigator.clipboard.writeText(command.querySelector("code").textContent).then(
      function () { button.textContent = "Copied"; },
      function () { button.remove(); }
    );
  });
  command.append(button);
});

// Paper cannot unfold: open everything before printing.
addEventListener("beforeprint", function () {
  document.querySelectorAll("details:not(.timeline)").forEach(function (details) { details.open = true; });
});
