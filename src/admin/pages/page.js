// Sends the token of the link, which stands behind `#`, with what is entered, to where the form says.
const token = new URLSearchParams(location.hash.slice(1)).get("token") ?? "";
// Not left in the address bar and the history.
history.replaceState(null, "", location.pathname);
const form = document.querySelector("form");
const outcome = document.querySelector("#outcome");

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  outcome.textContent = "";
  const body = { token };
  for (const input of form.querySelectorAll("input")) {
    if (input.value !== "") body[input.name] = input.value;
  }
  try {
    const answer = await fetch(form.dataset.to, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
    });
    if (answer.ok) {
      form.hidden = true;
      outcome.textContent = form.dataset.done;
      return;
    }
    const problem = await answer.json();
    const faults = (problem.errors ?? []).map((fault) => {
      const name = (fault.pointer ?? "").slice(1);
      const label = form.querySelector(`label[for="${CSS.escape(name)}"]`);
      return `${label?.textContent ?? name} ${fault.detail}.`;
    });
    outcome.textContent = faults.length > 0 ? faults.join(" ") : `${problem.title}: ${problem.detail}.`;
  } catch {
    outcome.textContent = "Sentinel did not answer. Try again in a moment.";
  }
});
