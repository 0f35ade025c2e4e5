// The service through OpenAI's client library for Node: openai_node.mjs FOLDER_OF_THE_PACKAGE URL KEY; prints "ok ..." or
// "FAILED ..." a check.
import { pathToFileURL } from "node:url";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";

const [folder, url, key] = process.argv.slice(2);
const { default: OpenAI, APIError } = await import(pathToFileURL(path.join(folder, "index.mjs")).href);
const client = new OpenAI({ baseURL: url + "/v1", apiKey: key, maxRetries: 0 });
const messages = [{ role: "user", content: "写一首关于春江的七言绝句" }];
const schema = { type: "object", properties: { city: { enum: ["北京", "杭州"] } }, required: ["city"], additionalProperties: false };
const tools = [{ type: "function", function: { name: "weather", description: "the weather", parameters: schema } }];

function check(name, holds) {
  console.log((holds ? "ok " : "FAILED ") + "node: " + name);
}
async function refused(name, status, call) {
  try {
    await call();
    check(name, false);
  } catch (error) {
    check(name, error instanceof APIError && error.status === status && error.message.length > 10);
  }
}

const whole = await client.chat.completions.create({ model: "mini", messages, temperature: 0 });
const text = whole.choices[0].message.content;
check("a chat answers", whole.choices[0].finish_reason === "stop" && text.length > 20);

let streamed = "", usage;
for await (const chunk of await client.chat.completions.create({ model: "mini", messages, temperature: 0, stream: true, stream_options: { include_usage: true } })) {
  streamed += chunk.choices[0]?.delta.content ?? "";
  usage = chunk.usage ?? usage;
}
check("a stream says the same and counts the same", streamed === text && usage.total_tokens === whole.usage.total_tokens);

const choice = { type: "function", function: { name: "weather" } };
const called = await client.chat.completions.create({ model: "mini", messages, tools, tool_choice: choice, parallel_tool_calls: false });
check("a tool is called", JSON.parse(called.choices[0].message.tool_calls[0].function.arguments).city.length === 2);
const runner = client.chat.completions.stream({ model: "mini", messages, tools, tool_choice: choice, parallel_tool_calls: false });
const final = await runner.finalChatCompletion();
check("the library puts a streamed call together", JSON.parse(final.choices[0].message.tool_calls[0].function.arguments).city.length === 2);

const form = await client.chat.completions.create({ model: "mini", messages, response_format: { type: "json_schema", json_schema: { name: "s", schema, strict: true } } });
check("a form binds", ["北京", "杭州"].includes(JSON.parse(form.choices[0].message.content).city));

const response = await client.responses.create({ model: "mini", input: messages[0].content, temperature: 0 });
check("a response says the same", response.output_text === text);
let pieces = "";
for await (const event of await client.responses.create({ model: "mini", input: messages[0].content, temperature: 0, stream: true }))
  if (event.type === "response.output_text.delta") pieces += event.delta;
check("so does a streamed one", pieces === text);

const file = path.join(os.tmpdir(), `qw-node-${process.pid}.txt`);
fs.writeFileSync(file, "abc");
const kept = await client.files.create({ file: fs.createReadStream(file), purpose: "user_data" });
fs.unlinkSync(file);
check("a file is kept and read back", kept.bytes === 3 && (await (await client.files.content(kept.id)).text()) === "abc");

const models = [];
for await (const model of client.models.list()) models.push(model.id);
check("models are listed", models.join() === "mini");

const controller = new AbortController();
const stream = await client.chat.completions.create({ model: "mini", messages, stream: true, max_tokens: 1500, ignore_eos: true }, { signal: controller.signal });
let seen = 0;
try {
  for await (const _ of stream) if (++seen === 3) controller.abort();
} catch {
  // the library may say so or not
}
check("a stream can be given up", seen >= 3 && seen < 1000);

await refused("an unknown model is refused", 404, () => client.chat.completions.create({ model: "none", messages }));
await refused("what is out of bounds is refused", 400, () => client.chat.completions.create({ model: "mini", messages, temperature: 9 }));
await refused("a wrong key is refused", 401, () => new OpenAI({ baseURL: url + "/v1", apiKey: "sk-wrong", maxRetries: 0 }).models.list());
