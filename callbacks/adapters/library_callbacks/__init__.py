"""Adapters for callbacks that other libraries add to a `fit`, recognised without an import."""
