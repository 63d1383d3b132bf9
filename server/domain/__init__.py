"""The rules of the register: pure, without database, transport or clock."""
