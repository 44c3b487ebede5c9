"""A store that lies: documents with right digests and any content, and what they may not do."""
