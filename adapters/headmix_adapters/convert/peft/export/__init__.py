"""Export of an artifact as a PEFT LoRA folder."""
