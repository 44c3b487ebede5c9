"""The page of a report: what it shows, and how it behaves in a browser."""
