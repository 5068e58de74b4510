"""The only door to Redis: one method per transition, each one Lua script."""
