"""Workers that train: they claim fine-tuning jobs and run `headmix train` for them, on any machine.

`worker` claims one job after another. One attempt (`job/attempt`) fills a private folder, starts the training process
within limits (`process/`), follows its events, stores its checkpoints and renews the claim (`job/keeper`). Every change
a worker makes is conditional on its claim: one that was cut off changes nothing any more, and another continues from
the last checkpoint. The trained artifact goes to the stored files; only the server writes the catalog.
"""
