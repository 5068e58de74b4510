"""steadybatch: its runner over Gemini, with a checkpoint."""

import json

from choice import MODEL, POLL_S, STATE, rows, write
from steadybatch import Request, Runner
from steadybatch.providers.gemini_batch import GeminiBatch


class TextBatch(GeminiBatch):
    """Gemini's batches with plain text: the runner takes what is not JSON for a bad answer and buys it again."""

    def results(self, batch_id):
        """The results, their texts as JSON."""
        for result in super().results(batch_id):
            if result.ok:
                result.text = json.dumps(result.text)
            yield result


def main():
    requests = [Request(key=row["key"], messages=[{"role": "user", "content": row["prompt"]}]) for row in rows()]
    report = Runner(TextBatch(), MODEL, checkpoint=STATE, poll_every=POLL_S).run(requests)
    write((result.key, result.data) for result in report.results if result.outcome.value == "ok")


if __name__ == "__main__":
    main()
