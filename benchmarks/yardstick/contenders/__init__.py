"""What is measured: headmix in process and over HTTP, transformers, PEFT and vLLM, and how work arrives."""
