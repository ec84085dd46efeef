"""A small network on synthetic digits, as an ordinary Flower app."""
