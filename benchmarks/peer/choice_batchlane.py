"""batchlane: its ``run`` over Gemini, with a checkpoint."""

import os

import batchlane as bl
from batchlane.adapters import gemini
from choice import MODEL, POLL_S, STATE, rows, write

BASE = os.environ["GOOGLE_GEMINI_BASE_URL"]
gemini.BASE_URL = f"{BASE}/v1beta"  # constants in its source: it has no setting for another address
gemini.UPLOAD_URL = f"{BASE}/upload/v1beta/files"
gemini.DOWNLOAD_URL = f"{BASE}/download/v1beta"
gemini.INLINE_LIMIT = 0  # always a file, as for any load above 20 MB


def main():
    lines = [
        bl.BatchLine(row["key"], f"gemini/{MODEL}", [{"role": "user", "content": row["prompt"]}]) for row in rows()
    ]
    done = bl.run(lines, checkpoint=STATE, poll_interval=POLL_S)
    write((line.custom_id, bl.answer_text(result)) for line, result in done if result.ok)


if __name__ == "__main__":
    main()
