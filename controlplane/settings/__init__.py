"""What processes are told at their start: parsed once, all errors together, passed down."""
