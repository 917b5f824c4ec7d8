// Sends the token of the link, which stands behind `#`, with the password that is entered.
const token = new URLSearchParams(location.hash.slice(1)).get("token") ?? "";
// Not left in the address bar and the history.
history.replaceState(null, "", location.pathname);
const form = document.querySelector("form");
const outcome = document.querySelector("#outcome");

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  outcome.textContent = "";
  try {
    const answer = await fetch("auth/password/reset", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ token, password: form.querySelector("input").value }),
    });
    if (answer.ok) {
      form.hidden = true;
      outcome.textContent = "Your password is set. You can log in with it now.";
      return;
    }
    const problem = await answer.json();
    const faults = (problem.errors ?? []).map((fault) => `The password ${fault.detail}.`);
    outcome.textContent = faults.length > 0 ? faults.join(" ") : `${problem.title}: ${problem.detail}.`;
  } catch {
    outcome.textContent = "Sentinel did not answer. Try again in a moment.";
  }
});
