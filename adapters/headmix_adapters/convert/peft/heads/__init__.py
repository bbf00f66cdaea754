"""Classification heads of PEFT's adapters."""
