"""Features, means and networks on speech that comes in pieces; hybrid/decode/online.py joins them."""
