"""From samples that arrive in pieces of any size to log-likelihoods: `OnlineAcoustics` (loglikes.py)."""
