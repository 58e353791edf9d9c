"""The router as an OpenAI-compatible reverse proxy: sockets around the sans-IO `Router`."""
