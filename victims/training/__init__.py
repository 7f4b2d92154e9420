"""How victims are trained: data, losses, the loop, and the card that goes with the weights."""
