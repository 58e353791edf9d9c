"""Requests that wait their turn, and who is next."""
