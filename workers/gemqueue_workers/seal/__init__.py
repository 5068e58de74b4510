"""The commands of sealing: keys that rotate, and one tenant's data that nobody reads again."""
