"""The stored format: documents, keys, shards, and the encoding of plain values."""
