// The built-in chat page: plain DOM, no dependencies, speaks the OpenAI protocol of the server it came from.
"use strict";
const $ = (id) => document.getElementById(id);
let messages = [];  // of the conversation shown; "New chat" begins another array
let running = null;

function bubble(role, text) {
  const box = document.createElement("div");
  box.className = "message " + role;
  const reasoning = document.createElement("div");
  reasoning.className = "reasoning";
  const body = document.createElement("div");
  body.className = "body";
  body.textContent = text;
  const meta = document.createElement("div");
  meta.className = "meta";
  box.append(reasoning, body, meta);
  $("log").append(box);
  box.scrollIntoView({ block: "end" });
  return { box, reasoning, body, meta };
}

function showError(text) {
  bubble("error", text);
}

// What a browser's session must show with a change (docs/operations/accounts.md); nothing without a session.
function sessionToken() {
  const found = /(?:^|; )qw_csrf=([0-9a-f]+)/.exec(document.cookie);
  return found ? { "X-CSRF-Token": found[1] } : {};
}

async function loadModels() {
  try {
    const answer = await (await fetch("/v1/models")).json();
    for (const model of answer.data) $("model").append(new Option(model.id, model.id));
  } catch (error) {
    showError("The server does not answer: " + error.message);
  }
}

// Calls onData for each `data:` line of a server-sent event stream.
async function readEvents(response, onData) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    rest += value;
    let end;
    while ((end = rest.indexOf("\n")) >= 0) {
      const line = rest.slice(0, end).replace(/\r$/, "");
      rest = rest.slice(end + 1);
      if (line.startsWith("data: ")) onData(line.slice(6));
    }
  }
}

function setRunning(controller) {
  running = controller;
  $("stop").hidden = !controller;
  $("send").hidden = !!controller;
}

async function send(text) {
  $("hint").hidden = true;
  const chat = messages;
  chat.push({ role: "user", content: text });
  bubble("user", text);
  const view = bubble("assistant", "");
  const controller = new AbortController();
  setRunning(controller);
  const started = performance.now();
  const request = { model: $("model").value, messages: chat, stream: true, stream_options: { include_usage: true } };
  if ($("temperature").value !== "") request.temperature = Number($("temperature").value);
  let content = "", tokens = 0, reason = null;
  try {
    const response = await fetch("/v1/chat/completions", {
      method: "POST",
      headers: { "Content-Type": "application/json", ...sessionToken() },
      signal: controller.signal,
      body: JSON.stringify(request),
    });
    if (!response.ok) throw new Error((await response.json()).error.message);
    await readEvents(response, (data) => {
      if (data === "[DONE]") return;
      const event = JSON.parse(data);
      if (event.error) throw new Error(event.error.message);
      if (event.usage) tokens = event.usage.completion_tokens;
      const choice = event.choices[0];
      if (!choice) return;
      if (choice.finish_reason) reason = choice.finish_reason;
      if (choice.retract) content = view.body.textContent = view.reasoning.textContent = "";  // a policy blocked it
      if (choice.delta.reasoning_content) view.reasoning.textContent += choice.delta.reasoning_content;
      if (choice.delta.content) {
        content += choice.delta.content;
        view.body.textContent = content;
      }
      const log = $("log");
      if (log.scrollHeight - log.scrollTop - log.clientHeight < 120) log.scrollTop = log.scrollHeight;
    });
  } catch (error) {
    if (error.name === "AbortError") reason = "stopped";
    else if (chat === messages) showError(error instanceof TypeError ? "The server does not answer: " + error.message : error.message);
  }
  if (chat !== messages) return;  // a new conversation has begun meanwhile
  setRunning(null);
  if (content) chat.push({ role: "assistant", content });
  else {  // nothing was answered: what was asked can be sent again
    chat.pop();
    view.box.remove();
    if (reason === "content_filter") showError("The answer was ended by the policy of this service.");
  }
  const seconds = (performance.now() - started) / 1000;
  view.meta.textContent = [tokens ? tokens + " tokens, " + (tokens / seconds).toFixed(0) + " tokens/s" : "",
    reason && reason !== "stop" ? reason : ""].filter(Boolean).join(" · ");
  $("text").focus();
}

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("text").value.trim();
  if (!text || running) return;
  $("text").value = "";
  send(text);
});
$("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    $("form").requestSubmit();
  }
});
$("stop").addEventListener("click", () => running && running.abort());
$("new").addEventListener("click", () => {
  if (running) running.abort();
  setRunning(null);
  messages = [];
  $("log").replaceChildren();
  $("hint").hidden = false;
  $("text").focus();
});
$("hint").addEventListener("click", () => {
  $("text").value = $("hint").textContent;
  $("text").focus();
});
loadModels();
