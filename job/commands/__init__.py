"""The commands beside `keepfit run`: what a store holds, whether it is sound, and how to use it."""
