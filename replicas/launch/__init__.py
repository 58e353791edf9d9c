"""Real engines: how vLLM and SGLang are started, watched, reset, hurt and ended. It knows no policy, no load and no study."""
