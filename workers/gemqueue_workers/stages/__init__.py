"""The five stages, and what they share: each claims a record, does one thing, and puts it back."""
