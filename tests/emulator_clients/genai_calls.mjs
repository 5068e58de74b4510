// Every call of the batch guide by @google/genai on Node, as the guide writes it. Argument: the emulator's address.
import {GoogleGenAI} from '@google/genai';
import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

const ai = new GoogleGenAI({apiKey: 'k', httpOptions: {baseUrl: process.argv[2]}});
const MODEL = 'gemini-3.8-flash';
const EMBEDDER = 'gemini-embedding-001';
const inline = [
  {contents: [{parts: [{text: 'Tell me a one-sentence joke.'}], role: 'user'}]},
  {contents: [{parts: [{text: 'Why is the sky blue?'}], role: 'user'}]},
];
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'calls-'));
const ENDED = new Set(['JOB_STATE_SUCCEEDED', 'JOB_STATE_FAILED', 'JOB_STATE_CANCELLED', 'JOB_STATE_EXPIRED']);

async function ended(name) {
  const deadline = Date.now() + 20000;
  for (;;) {
    const job = await ai.batches.get({name});
    if (ENDED.has(job.state)) return job;
    assert.ok(Date.now() < deadline, `${name} did not end`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

async function uploaded(rows) {
  const file = path.join(folder, 'my-batch-requests.jsonl');
  fs.writeFileSync(file, rows.map((row) => JSON.stringify(row) + '\n').join(''));
  return await ai.files.upload({file, config: {displayName: 'my-batch-requests', mimeType: 'jsonl'}});
}

async function lines(job) {
  const downloadPath = path.join(folder, 'out.jsonl');
  await ai.files.download({file: job.dest.fileName, downloadPath});
  const deadline = Date.now() + 5000;
  // The client resolves before the file is written to its end.
  for (;;) {
    const text = fs.existsSync(downloadPath) ? fs.readFileSync(downloadPath, 'utf8') : '';
    if (text.endsWith('\n')) return text.trim().split('\n').map((line) => JSON.parse(line));
    assert.ok(Date.now() < deadline, 'nothing was downloaded');
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

const calls = {
  'batches create inline': async () => {
    const job = await ai.batches.create({model: MODEL, src: inline, config: {displayName: 'inlined'}});
    assert.equal(job.state, 'JOB_STATE_PENDING');
    for (const each of (await ended(job.name)).dest.inlinedResponses) {
      assert.match(each.response.candidates[0].content.parts[0].text, /^\[emulated\]/);
    }
  },
  'batches create file': async () => {
    const rows = inline.map((request, n) => ({key: `request-${n}`, request}));
    const job = await ai.batches.create({model: MODEL, src: (await uploaded(rows)).name});
    const keys = (await lines(await ended(job.name))).map((row) => row.key).sort();
    assert.deepEqual(keys, ['request-0', 'request-1']);
  },
  'batches create system instruction and tools': async () => {
    const config = {systemInstruction: {parts: [{text: 'You are a cat.'}]}, tools: [{googleSearch: {}}]};
    const job = await ai.batches.create({model: MODEL, src: [{...inline[0], config}]});
    assert.equal((await ended(job.name)).dest.inlinedResponses.length, 1);
  },
  'batches create structured output': async () => {
    const responseSchema = {type: 'ARRAY', items: {type: 'OBJECT', properties: {recipe: {type: 'STRING'}}}};
    const config = {responseMimeType: 'application/json', responseSchema};
    const job = await ai.batches.create({model: MODEL, src: [{...inline[0], config}]});
    const [answer] = (await ended(job.name)).dest.inlinedResponses;
    assert.ok('recipe' in JSON.parse(answer.response.candidates[0].content.parts[0].text)[0]);
  },
  'batches create images': async () => {
    const request = {...inline[0], generation_config: {responseModalities: ['TEXT', 'IMAGE']}};
    const file = await uploaded([{key: 'a', request}]);
    const job = await ai.batches.create({model: 'gemini-3-pro-image-preview', src: file.name});
    const [row] = await lines(await ended(job.name));
    assert.ok(row.response.candidates[0].content.parts.some((part) => part.inlineData?.mimeType === 'image/png'));
  },
  'batches create embeddings inline': async () => {
    const inlinedRequests = {contents: ['Why?', 'How?'], config: {outputDimensionality: 5}};
    const job = await ai.batches.createEmbeddings({model: EMBEDDER, src: {inlinedRequests}});
    const found = (await ended(job.name)).dest.inlinedEmbedContentResponses;
    assert.deepEqual(found.map((each) => each.response.embedding.values.length), [5, 5]);
  },
  'batches create embeddings file': async () => {
    const row = {key: 'a', request: {content: {parts: [{text: 'x'}]}, output_dimensionality: 512}};
    const job = await ai.batches.createEmbeddings({model: EMBEDDER, src: {fileName: (await uploaded([row])).name}});
    assert.equal((await lines(await ended(job.name)))[0].response.embedding.values.length, 512);
  },
  'batches list': async () => {
    const names = [];
    for await (const job of await ai.batches.list({config: {pageSize: 3}})) names.push(job.name);
    assert.ok(names.length > 3 && new Set(names).size === names.length);
  },
  'batches cancel and delete': async () => {
    const job = await ai.batches.create({model: MODEL, src: inline});
    await ai.batches.cancel({name: job.name});
    await ai.batches.delete({name: job.name});
    await assert.rejects(ai.batches.get({name: job.name}), (error) => error.status === 404);
  },
  'files upload in chunks, get, list, delete': async () => {
    const data = new Blob(['x'.repeat(9 << 20)]);
    const config = {name: 'my-big-js-file', mimeType: 'application/jsonl'};
    const file = await ai.files.upload({file: data, config});
    assert.equal(Number((await ai.files.get({name: file.name})).sizeBytes), 9 << 20);
    const names = [];
    for await (const each of await ai.files.list({config: {pageSize: 2}})) names.push(each.name);
    assert.ok(names.includes('files/my-big-js-file'));
    await ai.files.delete({name: file.name});
  },
  'webhooks all': async () => {
    const made = {name: 'n', uri: 'http://127.0.0.1:1/x', subscribed_events: ['batch.succeeded']};
    const hook = await ai.webhooks.create(made);
    assert.match(hook.new_signing_secret, /^whsec_/);
    assert.equal((await ai.webhooks.get(hook.id)).name, 'n');
    assert.ok((await ai.webhooks.list({page_size: 5})).webhooks.some((each) => each.id === hook.id));
    assert.equal((await ai.webhooks.update(hook.id, {state: 'disabled', update_mask: 'state'})).state, 'disabled');
    await ai.webhooks.ping(hook.id);
    assert.match((await ai.webhooks.rotateSigningSecret(hook.id, {})).secret, /^whsec_/);
    await ai.webhooks.delete(hook.id);
  },
  'batches create with webhook config': async () => {
    const webhookConfig = {uris: ['http://127.0.0.1:1/x'], userMetadata: {a: 'b'}};
    assert.ok((await ai.batches.create({model: MODEL, src: inline, config: {webhookConfig}})).name);
  },
  'interactive generate, stream, embed, count': async () => {
    assert.match((await ai.models.generateContent({model: MODEL, contents: 'hi'})).text, /^\[emulated\]/);
    let text = '';
    for await (const chunk of await ai.models.generateContentStream({model: MODEL, contents: 'hi'})) text += chunk.text ?? '';
    assert.match(text, /^\[emulated\]/);
    const embedded = await ai.models.embedContent({model: EMBEDDER, contents: 'hi'});
    assert.equal(embedded.embeddings[0].values.length, 3072);
    assert.ok((await ai.models.countTokens({model: MODEL, contents: 'hi'})).totalTokens > 0);
    assert.equal((await ai.models.get({model: MODEL})).name, `models/${MODEL}`);
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
fs.rmSync(folder, {recursive: true});
