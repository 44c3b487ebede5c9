"""The report of a run as one self-contained page in HTML.

`page_of` (render.py) returns the page, and server.py serves it while a run trains. model.py,
timeline.py and curves.py decide what it shows; templates/ and assets/ how that looks.
"""
