"""`hybrid init CORPUS > my.toml`: looks at a corpus and writes a recipe of one screen for it."""
