// The OpenAI-compatible batch calls by openai on Node. Argument: the emulator's address.
import OpenAI from 'openai';
import assert from 'node:assert/strict';

const url = process.argv[2];
const client = new OpenAI({apiKey: 'k', baseURL: `${url}/v1beta/openai/`, maxRetries: 0});
const CHAT = '/v1/chat/completions';
const chat = {model: 'gemini-3.8-flash', messages: [{role: 'user', content: 'hi'}]};

async function uploaded(endpoint, body) {
  const row = {custom_id: 'request-1', method: 'POST', url: endpoint, body};
  const headers = {'x-goog-api-key': 'k', 'X-Goog-Upload-Command': 'start'};
  const started = await fetch(`${url}/upload/v1beta/files`, {method: 'POST', headers});
  const finish = {'X-Goog-Upload-Command': 'upload, finalize', 'X-Goog-Upload-Offset': '0'};
  const address = started.headers.get('x-goog-upload-url');
  const reply = await fetch(address, {method: 'POST', headers: finish, body: JSON.stringify(row)});
  return (await reply.json()).file.name;
}

async function created(endpoint, body) {
  const input_file_id = await uploaded(endpoint, body);
  return await client.batches.create({input_file_id, endpoint, completion_window: '24h'});
}

async function completed(endpoint, body) {
  let batch = await created(endpoint, body);
  const deadline = Date.now() + 20000;
  while (!['completed', 'failed', 'cancelled', 'expired'].includes(batch.status)) {
    assert.ok(Date.now() < deadline);
    await new Promise((resolve) => setTimeout(resolve, 20));
    batch = await client.batches.retrieve(batch.id);
  }
  assert.equal(batch.status, 'completed');
  const reply = await fetch(`${url}/download/v1beta/${batch.output_file_id}:download?alt=media&key=k`);
  const row = JSON.parse(await reply.text());
  assert.deepEqual([row.custom_id, row.response.status_code], ['request-1', 200]);
  return row.response.body;
}

const calls = {
  'batches chat create retrieve': async () => {
    assert.match((await completed(CHAT, chat)).choices[0].message.content, /^\[emulated\]/);
  },
  'batches embeddings create retrieve': async () => {
    const body = {model: 'gemini-embedding-001', input: 'hi', dimensions: 4};
    assert.equal((await completed('/v1/embeddings', body)).data[0].embedding.length, 4);
  },
  'batches list': async () => {
    const ids = [];
    for await (const batch of client.batches.list({limit: 1})) ids.push(batch.id);
    assert.ok(ids.length >= 2);
  },
  'batches cancel': async () => {
    const made = await created(CHAT, chat);
    assert.equal((await client.batches.cancel(made.id)).id, made.id);
  },
  'files create is refused': async () => {
    const file = new File(['{}'], 'in.jsonl');
    await assert.rejects(client.files.create({file, purpose: 'batch'}), (error) => error.status === 404);
  },
};

for (const [call, run] of Object.entries(calls)) {
  let note = '';
  try {
    await run();
  } catch (error) {
    note = String(error.stack ?? error).slice(0, 300);
  }
  console.log(JSON.stringify({call, ok: note === '', note}));
}
