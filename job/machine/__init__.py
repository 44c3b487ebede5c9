"""The machine of an attempt: its type, place, price and log, as far as they can be found."""
