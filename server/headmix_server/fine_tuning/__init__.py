"""Fine-tuning jobs: what a tenant asks for, the recipe it becomes, how its data is checked and its result published."""
