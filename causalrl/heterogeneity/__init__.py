"""How effects differ between units: doubly robust scores, and summaries of the effect made of them."""
