#!/usr/bin/env bash
# The guide's shell samples, changed in the base address alone, and where the guide contradicts the wire (the cancel
# has its POST, states are read from .metadata.state). Argument: the emulator's address. Wants curl and python3.
set -u
BASE=$1
GEMINI_API_KEY=k
cd "$(mktemp -d)" || exit 1

field() { python3 -c 'import json, sys
value = json.load(sys.stdin)
for name in sys.argv[1].split("."):
    value = value[int(name)] if isinstance(value, list) else value.get(name, "")
print(value if isinstance(value, str) else json.dumps(value))' "$1"; }

report() { # name, what was got, the pattern that it must match
  if [[ $2 =~ $3 ]]; then ok=true; else ok=false; fi
  python3 -c 'import json, sys
print(json.dumps({"call": sys.argv[1], "ok": sys.argv[2] == "true", "note": "" if sys.argv[2] == "true" else sys.argv[3][:300]}))' "$1" "$ok" "$2"
}

ended() { # name of a batch; prints its operation
  for _ in $(seq 200); do
    curl -s "$BASE/v1beta/$1" -H "x-goog-api-key: $GEMINI_API_KEY" -H 'Content-Type:application/json' > status.json
    case $(field metadata.state < status.json) in
      *SUCCEEDED | *FAILED | *CANCELLED | *EXPIRED) break ;;
    esac
  done
  cat status.json
}

upload() { # path; prints the file resource; the chunk is keyless, and the start is in single quotes
  MIME_TYPE=text/plain
  NUM_BYTES=$(wc -c < "$1")
  DISPLAY_NAME=BatchInput
  curl -s "$BASE/upload/v1beta/files" \
    -D upload-header.tmp \
    -H "x-goog-api-key: $GEMINI_API_KEY" \
    -H "X-Goog-Upload-Protocol: resumable" \
    -H "X-Goog-Upload-Command: start" \
    -H "X-Goog-Upload-Header-Content-Length: ${NUM_BYTES}" \
    -H "X-Goog-Upload-Header-Content-Type: ${MIME_TYPE}" \
    -H "Content-Type: application/jsonl" \
    -d "{'file': {'display_name': '${DISPLAY_NAME}'}}" 2> /dev/null
  upload_url=$(grep -i "x-goog-upload-url: " upload-header.tmp | cut -d" " -f2 | tr -d "\r")
  curl -s "${upload_url}" \
    -H "Content-Length: ${NUM_BYTES}" \
    -H "X-Goog-Upload-Offset: 0" \
    -H "X-Goog-Upload-Command: upload, finalize" \
    --data-binary "@$1" 2> /dev/null
}

curl -s "$BASE/v1beta/models/gemini-3.8-flash:batchGenerateContent" \
  -H "x-goog-api-key: $GEMINI_API_KEY" \
  -X POST \
  -H "Content-Type:application/json" \
  -d '{
    "batch": {
        "display_name": "my-batch-requests",
        "input_config": {
            "requests": {
                "requests": [
                    {
                        "request": {"contents": [{"parts": [{"text": "Describe the process of photosynthesis."}]}]},
                        "metadata": {
                            "key": "request-1"
                        }
                    },
                    {
                        "request": {"contents": [{"parts": [{"text": "Describe the process of photosynthesis."}]}]},
                        "metadata": {
                            "key": "request-2"
                        }
                    }
                ]
            }
        }
    }
}' > created.json
BATCH_NAME=$(field name < created.json)
report "create inline" "$(cat created.json)" 'BATCH_STATE_PENDING'
report "poll" "$(ended "$BATCH_NAME" | field metadata.state)" '^BATCH_STATE_SUCCEEDED$'
report "results inline" "$(ended "$BATCH_NAME" | field response.inlinedResponses)" 'emulated.*request-[12]'

echo '{"contents": [{"parts": [{"text": "Describe photosynthesis."}]}], "generationConfig": {"temperature": 0.7}}
{"contents": [{"parts": [{"text": "What are the main ingredients in a Margherita pizza?"}]}]}' > batch_requests.json
upload batch_requests.json > file_info.json
report "upload, single-quoted start, keyless chunk" "$(cat file_info.json)" '"state":"ACTIVE"'
BATCH_INPUT_FILE=$(field file.name < file_info.json)
create_from_file() { # model, verb
  curl -s "$BASE/v1beta/models/$1:$2" \
    -X POST \
    -H "x-goog-api-key: $GEMINI_API_KEY" \
    -H "Content-Type:application/json" \
    -d "{
    'batch': {
        'display_name': 'my-batch-requests',
        'input_config': {
            'file_name': '${BATCH_INPUT_FILE}'
        }
    }
}"
}
create_from_file gemini-3.8-flash batchGenerateContent > created.json
report "create file, bare lines" "$(cat created.json)" 'BATCH_STATE_PENDING'
responses_file_name=$(ended "$(field name < created.json)" | field response.responsesFile)
report "results file" "$(curl -s "$BASE/v1beta/$responses_file_name:download?alt=media" \
  -H "x-goog-api-key: $GEMINI_API_KEY")" '"response":.*emulated'
report "results file, /download" "$(curl -s "$BASE/download/v1beta/$responses_file_name:download?alt=media" \
  -H "x-goog-api-key: $GEMINI_API_KEY")" '"response":.*emulated'

echo '{"key": "request_1", "request": {"content": {"parts": [{"text": "Explain gravity."}]}, "output_dimensionality": 8}}' > in.jsonl
BATCH_INPUT_FILE=$(upload in.jsonl | field file.name)
create_from_file gemini-embedding-001 asyncBatchEmbedContent > created.json
report "create embeddings file" "$(ended "$(field name < created.json)")" 'SUCCEEDED.*responsesFile'

echo '{"key": "request-1", "request": {"contents": [{"parts": [{"text": "A sunset"}]}], "generation_config": {"responseModalities": ["TEXT", "IMAGE"]}}}' > in.jsonl
BATCH_INPUT_FILE=$(upload in.jsonl | field file.name)
create_from_file gemini-3-pro-image-preview batchGenerateContent > created.json
responses_file_name=$(ended "$(field name < created.json)" | field response.responsesFile)
report "create images" "$(curl -s "$BASE/v1beta/$responses_file_name:download?alt=media" \
  -H "x-goog-api-key: $GEMINI_API_KEY")" 'image/png'

report "list" "$(curl -s "$BASE/v1beta/batches?pageSize=2" -H "x-goog-api-key: $GEMINI_API_KEY")" 'nextPageToken'
report "cancel" "$(curl -s -X POST "$BASE/v1beta/$BATCH_NAME:cancel" -H "x-goog-api-key: $GEMINI_API_KEY" \
  -H "Content-Type:application/json")" '^\{\}$'
report "cancel as the guide has it, by GET" "$(curl -s "$BASE/v1beta/$BATCH_NAME:cancel" \
  -H "x-goog-api-key: $GEMINI_API_KEY")" '"code":400'
report "delete" "$(curl -s -X DELETE "$BASE/v1beta/$BATCH_NAME" -H "x-goog-api-key: $GEMINI_API_KEY")" '^\{\}$'
report "get after delete" "$(curl -s "$BASE/v1beta/$BATCH_NAME" -H "x-goog-api-key: $GEMINI_API_KEY")" '"code":404'
report "webhook create" "$(curl -s -X POST "$BASE/v1/webhooks?webhook_id=my-hook" -H "x-goog-api-key: $GEMINI_API_KEY" \
  -H "Content-Type: application/json" \
  -d '{"name": "MyBatchWebhook", "uri": "https://my-api.com/gemini-callback", "subscribed_events": ["batch.succeeded", "batch.failed"]}')" \
  'new_signing_secret'
report "create with a webhook of its own" "$(curl -s -X POST "$BASE/v1beta/models/gemini-3.8-flash:batchGenerateContent" \
  -H "x-goog-api-key: $GEMINI_API_KEY" -H "Content-Type: application/json" \
  -d '{"batch": {"input_config": {"requests": {"requests": [{"request": {"contents": [{"parts": [{"text": "a"}]}]}}]}}, "webhook_config": {"uris": ["https://my-api.com/gemini-webhook-dynamic"], "user_metadata": {"job_group": "nightly-eval"}}}}')" \
  'BATCH_STATE_PENDING'
