// Reads streams from standard input, each one line of JSON: an array of base64 chunks. Answers each with one line of
// JSON: what npm's eventsource-parser made of it.
import { createInterface } from "node:readline";
import { createParser } from "eventsource-parser";

function parse(chunks) {
  const result = { events: [], comments: [], retries: [], errors: [] };
  const parser = createParser({
    onEvent: ({ event, data, id }) => result.events.push([event ?? "message", data, id ?? null]),
    onComment: (comment) => result.comments.push(comment),
    onRetry: (milliseconds) => result.retries.push(milliseconds),
    onError: (error) => result.errors.push(error.message),
  });
  const decoder = new TextDecoder();
  for (const chunk of chunks) parser.feed(decoder.decode(Buffer.from(chunk, "base64"), { stream: true }));
  return result;
}

for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(JSON.stringify(parse(JSON.parse(line))) + "\n");
}
