"""The request and response language of the Gemini API. Pure."""
