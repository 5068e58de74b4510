"""Provider dialects of gemqueue, and an emulator of one provider."""
