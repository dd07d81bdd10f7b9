"""How fast, and whether it trained: what a step costs, what the machine can do, ratios with what is
sure of them."""
