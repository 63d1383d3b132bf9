"""Small real servers on localhost that play the suppliers: for `make run`, tests and by hand.

Each has switches (`PUT /sandbox/behaviour`) that make it misbehave as suppliers do. For
synthetic persons only.
"""
