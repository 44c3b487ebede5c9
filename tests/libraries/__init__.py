"""Searches and cross validations of other libraries, with Resumable among their callbacks."""
