// OpenAI's Node SDK: a parsed answer, a stream, and tools that it calls by itself.
import assert from "node:assert";
import OpenAI from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";

const model = process.env.MODEL;
const client = new OpenAI();
const messages = [{ role: "user", content: "File this." }];
const Ticket = z.object({ kind: z.enum(["bug", "question", "praise"]), urgent: z.boolean() });

const answer = await client.chat.completions.parse({
  model,
  messages,
  response_format: zodResponseFormat(Ticket, "ticket"),
  max_tokens: 200,
});
Ticket.parse(answer.choices[0].message.parsed);

let text = "";
for await (const chunk of await client.chat.completions.create({ model, messages, stream: true, max_tokens: 8 }))
  text += chunk.choices[0].delta.content ?? "";
assert(text);

const tools = [{ type: "function", function: { name: "file", parameters: z.toJSONSchema(Ticket) } }];
const stream = client.chat.completions.stream({ model, messages, tools, tool_choice: "required", max_tokens: 400 });
const { message, finish_reason } = (await stream.finalChatCompletion()).choices[0];
assert.strictEqual(finish_reason, "tool_calls");
for (const call of message.tool_calls) Ticket.parse(JSON.parse(call.function.arguments));

const response = await client.responses.create({ model, input: "Hello", max_output_tokens: 8 });
assert(response.output_text);
