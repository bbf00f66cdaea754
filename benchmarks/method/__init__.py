"""The paper's claim, tested: Kernel-mix, its lite form, LoRA and BD-LoRA with equal budgets and a rate tuned for each.

`methods` and `tasks` say what is compared, `plan` in which order, `train` runs one cell of the plan, `results` keeps
what it measured, and `report/` turns the results into docs/method.md.
"""
