"""Reports on a run for people and programs: its attempts, its goodput, its checkpoints."""
