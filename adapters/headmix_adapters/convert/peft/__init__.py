"""Import and export of PEFT's LoRA folders."""
