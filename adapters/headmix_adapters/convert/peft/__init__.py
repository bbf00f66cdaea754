"""PEFT's LoRA folders, in and out."""
