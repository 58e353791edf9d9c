"""What rules choose with: draws, ready decisions, places, weights, one half of a pair."""
