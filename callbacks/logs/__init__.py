"""The log of keepfit: lines for users, or JSON for programs. A script's own log is left alone."""
