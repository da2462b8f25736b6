"""The interactive page: decisions under a budget, solved again at every move of a slider. Dash, on loopback."""
