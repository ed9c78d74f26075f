// Pictures are sent one by one, a few at a time, and shown as their answers come. The token is kept nowhere else than here.
(() => {
  const $ = (id) => document.getElementById(id);
  const AT_ONCE = 4; // so that some are decoded while the model has others
  const RETRY_SECONDS = 1;
  const TOGETHER_MS = 150; // answers that come within it are drawn once
  const waiting = [];
  let [token, artefacts, limit, reference] = ["", [], Infinity, null];
  let [sent, done, underWay, came, turn] = [0, 0, 0, [], null];
  let stopped = new AbortController();

  const seconds = (count) => new Promise((over) => setTimeout(over, 1000 * count));
  const chosen = () => artefacts.find(({ name }) => name === $("artefact").value);
  const ask = (path, options = {}) => fetch(path, { ...options, headers: token ? { Authorization: `Bearer ${token}` } : {} });

  function complain(text) {
    $("trouble").hidden = !text;
    $("trouble").textContent = text;
  }

  // Who may enter, and what is served ------------------------------------------------------------------------------------

  async function enter() {
    const answer = await ask("page/artefacts").catch(() => null);
    // Before anything is shown: whoever sees the zone may drop at once.
    if (answer?.ok) ({ artefacts, body_limit: limit } = await answer.json());
    complain(!answer || (!answer.ok && answer.status !== 401) ? "The server does not answer as it should; load this page again." : "");
    $("enter").hidden = answer?.status !== 401;
    $("zone").hidden = !answer?.ok;
    if (answer?.status === 401) {
      $("refused").textContent = token && "That is not the token of this server.";
      $("token").focus();
    }
    if (!answer?.ok) return;
    const former = $("artefact").value;
    $("artefact").replaceChildren(...artefacts.map(({ name }) => new Option(name)));
    if (chosen() && artefacts.some(({ name }) => name === former)) $("artefact").value = former;
    if (sent === 0) anew();
    send();
  }

  function anew() {
    stopped.abort();
    stopped = new AbortController();
    waiting.length = 0;
    [sent, done, underWay, came] = [0, 0, 0, []];
    $("artefact").hidden = artefacts.length < 2;
    $("compared").hidden = !chosen().needs_reference;
    $("choices").hidden = $("artefact").hidden && $("compared").hidden;
    complain("");
    report.begin(chosen().about);
    tell();
  }

  // Pictures on their way ------------------------------------------------------------------------------------------------

  function take(files) {
    if ($("zone").hidden) return;
    waiting.push(...files);
    sent += files.length;
    tell();
    send();
  }

  function send() {
    const lacks = chosen()?.needs_reference && !reference;
    if (waiting.length) complain(lacks ? "Choose the reference that they are compared with." : "");
    while (!lacks && !$("zone").hidden && waiting.length && underWay < AT_ONCE) one(waiting.shift(), stopped.signal);
  }

  async function one(file, signal) {
    underWay++;
    const item = await scored(file, signal).catch(() => failed(file, "it cannot be read, or the server cannot be reached; try again"));
    if (signal.aborted) return;
    underWay--;
    if (item) {
      done++;
      came.push(item);
      turn ??= setTimeout(draw, TOGETHER_MS);
    } else {
      waiting.unshift(file);
      if (!$("zone").hidden) await enter();
    }
    tell();
    send();
  }

  const failed = (file, error) => ({ row: { path: file.name, score: null, error } });

  // What the page shows of a file; null where the token is not, or no longer, that of the server.
  async function scored(file, signal) {
    if (file.size > limit) return failed(file, `${file.size} bytes, and this server takes ${limit} at a time`);
    const body = new FormData();
    body.append("image", file);
    if (chosen().needs_reference) body.append("reference", reference);
    while (true) {
      const answer = await ask(`page/score?artefact=${encodeURIComponent(chosen().name)}`, { method: "POST", body, signal });
      if (answer.status === 401) return null;
      const content = await answer.json();
      if (answer.ok) return { ...content, row: { ...content.row, path: file.name } };
      if (answer.status !== 503) return failed(file, content.detail.replace(`${file.name}: `, ""));
      await seconds(Number(answer.headers.get("Retry-After")) || RETRY_SECONDS);
    }
  }

  function draw() {
    turn = null;
    if (came.length) report.add(came.splice(0));
  }

  function tell() {
    $("going").hidden = !sent;
    $("progress").max = Math.max(1, sent);
    $("progress").value = done;
    $("progress").hidden = done === sent;
    $("done").textContent = done < sent ? `${done} of ${sent}` : "";
  }

  // What is dropped, pasted or chosen ----------------------------------------------------------------------------------------

  // Files of what was dropped, folders with all that is in them; a folder hands out its entries in parts.
  async function filesOf(entry) {
    if (entry.isFile) return [await new Promise((found, lost) => entry.file(found, lost))];
    const reader = entry.createReader();
    const files = [];
    while (true) {
      const entries = await new Promise((found, lost) => reader.readEntries(found, lost));
      if (!entries.length) return files;
      for (const each of entries) files.push(...(await filesOf(each)));
    }
  }

  async function drop(event) {
    event.preventDefault();
    $("zone").classList.remove("over");
    const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry()).filter(Boolean);
    if (!entries.length) return take([...event.dataTransfer.files]);
    for (const entry of entries) take(await filesOf(entry).catch(() => []));
  }

  $("enter").addEventListener("submit", (event) => {
    event.preventDefault();
    token = $("token").value.trim();
    enter();
  });
  $("artefact").addEventListener("input", anew);
  $("anew").addEventListener("click", anew);
  for (const [button, input] of [["choose", "files"], ["choose-reference", "reference"]])
    $(button).addEventListener("click", () => $(input).click());
  $("files").addEventListener("change", () => {
    take([...$("files").files]);
    $("files").value = "";
  });
  $("reference").addEventListener("change", () => {
    [reference = null] = $("reference").files;
    $("choose-reference").textContent = reference?.name ?? "choose the reference";
    send();
  });
  document.addEventListener("paste", (event) => event.clipboardData?.files.length && take([...event.clipboardData.files]));
  document.addEventListener("drop", drop);
  for (const [kind, over] of [["dragover", true], ["dragleave", false]])
    document.addEventListener(kind, (event) => {
      event.preventDefault();
      $("zone").classList.toggle("over", over);
    });
  enter();
})();
