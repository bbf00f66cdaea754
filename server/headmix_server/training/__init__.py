"""Workers that train: they claim fine-tuning jobs and run `headmix train` for them, on any machine."""
