"""The emulator's webhooks: who is registered, what is signed, what is delivered."""
