"""gemqueue: a durable job queue that turns single prompts into Gemini Batch API jobs and back."""
