"""`hybrid serve`: recognition for many clients at once, by websocket, and a page to try it."""
