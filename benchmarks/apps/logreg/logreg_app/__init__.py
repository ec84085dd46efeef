"""Logistic regression on synthetic digits, as an ordinary Flower app."""
