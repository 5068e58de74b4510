"""How the server is reached: URLs, pools of connections, sentinels, TLS."""
