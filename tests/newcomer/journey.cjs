// A newcomer's first quarter of an hour, in a real browser: an organization, two users, a workspace, a key and a policy
// with nothing but /docs. Every step is a click or a typed text on the page; what a step needs is read from what an
// earlier one showed. Examples are sent as they stand, unless the newcomer has to say something of their own.
//
// node journey.cjs SENTINEL CHROMIUM FOLDER
"use strict";

const { spawn } = require("node:child_process");
const fs = require("node:fs");
const net = require("node:net");
const path = require("node:path");
const { chromium } = require("playwright-core");

const [sentinel, browserPath, folder] = process.argv.slice(2);

function freePort() {
  return new Promise((resolve) => {
    const server = net.createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

async function start() {
  const [gateway, admin] = [await freePort(), await freePort()];
  const log = fs.openSync(path.join(folder, "sentinel.log"), "w");
  const child = spawn(sentinel, ["serve"], {
    env: {
      PATH: process.env.PATH,
      SENTINEL_DATA_DIR: path.join(folder, "data"),
      SENTINEL_GATEWAY__LISTEN: `127.0.0.1:${gateway}`,
      SENTINEL_ADMIN__LISTEN: `127.0.0.1:${admin}`,
    },
    stdio: ["ignore", log, log],
  });
  const base = `http://127.0.0.1:${admin}`;
  for (let attempt = 0; attempt < 400; attempt++) {
    if (child.exitCode !== null) throw new Error(`sentinel ended with ${child.exitCode}`);
    try {
      if ((await fetch(`${base}/health`)).ok) return { child, base };
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
  throw new Error("sentinel does not answer");
}

class Docs {
  constructor(page) {
    this.page = page;
    this.faults = [];
  }

  static async open(browser, base) {
    const page = await browser.newPage({ viewport: { width: 1280, height: 1400 } });
    page.setDefaultTimeout(20_000);
    const docs = new Docs(page);
    page.on("console", (message) => {
      // The browser says of every answer that is an error that it is one.
      if (message.type() === "error" && !message.text().startsWith("Failed to load resource")) {
        docs.faults.push(`console: ${message.text()}`);
      }
    });
    page.on("pageerror", (error) => docs.faults.push(`page: ${error}`));
    page.on("request", (request) => {
      const local = request.url().startsWith(base) || /^(data|blob):/.test(request.url());
      if (!local) docs.faults.push(`asks another server: ${request.url()}`);
    });
    await page.goto(`${base}/docs`);
    await page.waitForSelector(".opblock-tag");
    return docs;
  }

  /// Clicks "Authorize" and gives `value` to the scheme of that name.
  async authorize(scheme, value) {
    const { page } = this;
    await page.click(".auth-wrapper .authorize");
    const form = page.locator(".auth-container", { has: page.locator(`h4:has(code:text-is("${scheme}"))`) });
    const again = form.locator("button", { hasText: "Logout" });
    if (await again.count()) await again.click();
    await form.locator("input").fill(value);
    await form.locator("button.authorize").click();
    await page.click(".modal-ux .close-modal");
  }

  /// Unfolds an operation, tries it out and executes it. `parameters` are typed into their fields; `edit` changes the
  /// example body, which is sent as it stands without.
  async run(id, { edit, parameters = {} } = {}) {
    const { page } = this;
    const block = page.locator(`[id$="-${id}"].opblock`);
    if (!(await block.evaluate((element) => element.classList.contains("is-open")))) {
      await block.locator(".opblock-summary-control").click();
      await block.locator("button.try-out__btn").click();
    }
    for (const [name, value] of Object.entries(parameters)) {
      await block.locator(`tr[data-param-name="${name}"] input`).fill(value);
    }
    const text = block.locator("textarea.body-param__text");
    if (edit) await text.fill(JSON.stringify(edit(JSON.parse(await text.inputValue())), null, 2));
    const sent = (await text.count()) ? await text.inputValue() : "";
    const clear = block.locator("button.btn-clear");
    if (await clear.count()) await clear.click();
    await block.locator("button.execute").click();
    const answer = block.locator(".live-responses-table");
    await answer.waitFor();
    const status = Number((await answer.locator(".response-col_status").last().innerText()).split("\n")[0]);
    const code = answer.locator(".response-col_description .highlight-code code").first();
    const shown = (await code.count()) ? await code.innerText() : "";
    let body = shown;
    try {
      body = JSON.parse(shown);
    } catch {
      // Not JSON: as it is.
    }
    console.log(`${status} ${id}${sent ? `  ${sent.replace(/\s+/g, " ")}` : ""}`);
    return { status, body };
  }
}

function expect(answer, status) {
  if (answer.status !== status) {
    throw new Error(`expected ${status}, the page shows ${answer.status}: ${JSON.stringify(answer.body)}`);
  }
  return answer.body;
}

async function journey(docs) {
  // Before anything: what the page says to somebody who forgot to authorize.
  expect(await docs.run("listWorkspaces"), 401);

  const owner = expect(await docs.run("register"), 201);
  await docs.authorize("session", owner.access_token);
  expect(await docs.run("getMe"), 200);

  const first = expect(await docs.run("inviteUser"), 201);
  const another = (body) => ({ ...body, email: "auditor@acme.com", full_name: "Max Mustermann", role: "auditor", permissions: [] });
  const second = expect(await docs.run("inviteUser", { edit: another }), 201);

  const workspace = expect(await docs.run("createWorkspace"), 201);
  const inIt = (body) => ({ ...body, workspace_id: workspace.id });
  const key = expect(await docs.run("createApiKey", { edit: inIt }), 201);
  const policy = expect(await docs.run("createPolicy"), 201);

  // The workspace under the new policy, with the version that the page showed.
  const under = () => ({ policy_id: policy.id });
  const parameters = { id: workspace.id, "If-Match": `"${workspace.version}"` };
  expect(await docs.run("updateWorkspace", { parameters, edit: under }), 200);

  // And all of it works: the key scans the example's text, the lists and the trail show what was made.
  await docs.authorize("apiKey", key.key);
  const scanned = expect(await docs.run("process"), 200);
  if (!scanned.policy.name.startsWith(policy.name)) throw new Error(`judged by ${JSON.stringify(scanned.policy)}`);
  const people = expect(await docs.run("listUsers"), 200).data.map((person) => person.id);
  for (const person of [owner.user_id, first.id, second.id]) {
    if (!people.includes(person)) throw new Error(`${person} is not in the list of people`);
  }
  const keys = expect(await docs.run("listApiKeys"), 200).data;
  if (keys.length !== 1 || keys[0].id !== key.id) throw new Error("the key is not in the list");
  const acts = expect(await docs.run("listAdminEvents"), 200).data.map((event) => event.action);
  for (const act of ["organization.create", "user.invite", "workspace.create", "api_key.create", "policy.create"]) {
    if (!acts.includes(act)) throw new Error(`no event ${act}`);
  }

  // One of the two logs in, and is told to set a password first; then she may do what a member may.
  const login = { email: first.email, password: first.temporary_password };
  const session = expect(await docs.run("login", { edit: () => login }), 200);
  await docs.authorize("session", session.access_token);
  expect(await docs.run("listPolicies"), 403);
  const change = (body) => ({ ...body, current_password: first.temporary_password });
  expect(await docs.run("changePassword", { edit: change }), 204);
  expect(await docs.run("listPolicies"), 200);
}

async function main() {
  const { child, base } = await start();
  const browser = await chromium.launch({ executablePath: browserPath, args: ["--no-sandbox"] });
  let docs;
  try {
    docs = await Docs.open(browser, base);
    await journey(docs);
    if (docs.faults.length) throw new Error(`the page complained:\n${docs.faults.join("\n")}`);
    console.log("an organization, two users, a workspace, a key and a policy: made with nothing but /docs");
  } catch (error) {
    if (docs) await docs.page.screenshot({ path: path.join(folder, "page.png") });
    console.error(`${error.stack}\n${(docs?.faults ?? []).join("\n")}\nthe page, and Sentinel's log: ${folder}`);
    process.exitCode = 1;
  } finally {
    await browser.close();
    child.kill("SIGTERM");
  }
}

main();
