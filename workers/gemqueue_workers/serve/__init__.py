"""The HTTP door: webhooks come in; health, metrics and a page of the queue go out."""
