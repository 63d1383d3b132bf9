"""What the register does by itself, beside the calls. Each job's state is in the database only."""
