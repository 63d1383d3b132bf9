"""The checks of `krr operator check`: what an operator may rely on, tried at a register."""
