"""What is being believed of the provider: shown, decided on, and checked by doctor."""
