// Vercel's AI SDK: generateObject, streamText and tools.
import assert from "node:assert";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateObject, generateText, streamText, tool } from "ai";
import { z } from "zod";

const provider = createOpenAICompatible({
  name: "headmix",
  baseURL: process.env.OPENAI_BASE_URL,
  apiKey: process.env.OPENAI_API_KEY,
  supportsStructuredOutputs: true,
});
const model = provider.chatModel(process.env.MODEL);
const Ticket = z.object({ kind: z.enum(["bug", "question", "praise"]), urgent: z.boolean() });

const { object } = await generateObject({ model, schema: Ticket, prompt: "File this.", maxOutputTokens: 200 });
Ticket.parse(object);

let text = "";
for await (const part of streamText({ model, prompt: "Hello", maxOutputTokens: 8 }).textStream) text += part;
assert(text);

const file = tool({ description: "File a ticket.", inputSchema: Ticket, execute: async ({ kind }) => kind });
const { toolCalls, toolResults } = await generateText({
  model,
  prompt: "File this.",
  tools: { file },
  toolChoice: "required",
  maxOutputTokens: 400,
});
assert(toolCalls.length > 0 && toolResults.length === toolCalls.length);
