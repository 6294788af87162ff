// A filter for the timeline. It is made here, so that without JavaScript nothing useless is shown.
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
// What is folded would be missing on paper.
addEventListener("beforeprint", function () {
  document.querySelectorAll("details:not(.timeline)").forEach(function (details) { details.open = true; });
});
