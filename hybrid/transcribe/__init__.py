"""`hybrid transcribe`: speech in, text, times and captions out."""
