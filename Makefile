# `make demo` and `make test` do everything from a fresh clone: see README.md. `make help` lists the rest.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
STAMPS := $(VENV)/stamps
SYSTEM_LIBRARIES := libegl1 libegl-mesa0 libgl1 libosmesa6
C_SOURCES = $(shell git ls-files '*.c' '*.h')
SANITIZED := build/c-sanitized
THREADED := build/c-threads
FUZZED := build/c-fuzz
FUZZ_SECONDS ?= 300

export PIP_DISABLE_PIP_VERSION_CHECK := 1
MAKEFLAGS += --no-print-directory

.PHONY: help venv train-deps install demo demo-all test test-fast test-c test-threads fuzz check format bench faults parity smoke first-task clean system

help:
	@echo "make demo     set up .venv, build, run the task in the embedded cell, say where the report is"
	@echo "make demo-all ten episodes of each task that has a policy, a stack for each, one page"
	@echo "make test     the same set-up with the training extras, then every test"
	@echo "make test-fast  what needs no stack, training or server, under two minutes: for every change; make test before it lands"
	@echo "make check    format, lint, types, C warnings"
	@echo "make fuzz     FUZZ_SECONDS=300 of fuzzing for each target; make test has a short run of it"
	@echo "make bench    benchmarks of test/bench, some hours"
	@echo "make faults   the long fault campaign with its controls (TRIALS=200)"
	@echo "make parity   imported checkpoints against LeRobot itself, which it installs in build/parity (5 GB; 20 to 40 min)"
	@echo "make smoke    the wheel with its declared dependencies alone, in an environment of its own: imports, help, one episode"
	@echo "make first-task  docs/tutorial/your_first_task.md in small: a new task as a package, recorded, trained, exported, tried (2 min)"
	@echo "make install  set-up and build alone; run it again after a change (incremental)"
	@echo "make train-deps  torch, onnx and transformers into .venv, for physai train, export and import"
	@echo "make format   rewrite the sources in the project's format"
	@echo "make clean    remove build/ and what was installed; .venv stays until: rm -r .venv"

# System libraries and .venv --------------------------------------------------------------------------------

system:
	@sh cmake/system_libraries.sh "$(PYTHON)" $(SYSTEM_LIBRARIES)

$(STAMPS)/venv:
	@$(MAKE) system
	$(PYTHON) -m venv $(VENV)
	@mkdir -p $(STAMPS)
	@touch $@

$(STAMPS)/runtime: requirements.txt constraints.txt | $(STAMPS)/venv
	@echo "installing pinned wheels (ROS 2, MuJoCo, ONNX Runtime, OpenCV) into $(VENV) ..."
	@$(PIP) install -c constraints.txt setuptools wheel
	@$(PIP) install -r requirements.txt -c constraints.txt
	@touch $@

$(STAMPS)/tools: requirements-test.txt constraints.txt | $(STAMPS)/runtime
	@echo "installing pytest, ruff, mypy and clang-format into $(VENV) ..."
	@$(PIP) install -r requirements-test.txt -c constraints.txt
	@$(PIP) install --no-deps -c constraints.txt openpi-client
	@touch $@

$(STAMPS)/train: requirements-train.txt constraints.txt | $(STAMPS)/runtime
	@echo "installing torch, onnx and transformers into $(VENV) ..."
	@$(PIP) install -r requirements-train.txt -c constraints.txt
	@touch $@

# Its own package is a source distribution that packs two wheels; what builds it is in requirements.txt.
$(STAMPS)/rtx: requirements-rtx.txt constraints.txt | $(STAMPS)/runtime
	@echo "installing TensorRT-RTX into $(VENV), for the test of building engines (NVIDIA's licence) ..."
	@$(PIP) install --no-build-isolation -r requirements-rtx.txt -c constraints.txt
	@touch $@

venv: $(STAMPS)/runtime

train-deps: $(STAMPS)/train

# Build and installation: rebuilt when a file that git knows (or would add) is newer than the last one -------

$(STAMPS)/physai: $(STAMPS)/runtime $(shell git ls-files -co --exclude-standard -- CMakeLists.txt cmake setup.py pyproject.toml \
		package.xml msg srv action launch config models 'physai_*' 2>/dev/null | sed 's/ /\\ /g')
	@echo "building and installing physai ..."
	@mkdir -p build
	@$(PIP) install --no-build-isolation --no-deps --force-reinstall . >build/install.log 2>&1 || { tail -60 build/install.log; exit 1; }
	@touch $@

install: $(STAMPS)/physai

# What they are for -----------------------------------------------------------------------------------------

demo: install
	@$(BIN)/physai demo

# Ten episodes of each task that has a policy.
demo-all: install
	@$(BIN)/physai demo-all

test: install $(STAMPS)/tools $(STAMPS)/train $(STAMPS)/rtx test-c test-threads
	@PYTHONSAFEPATH=1 $(BIN)/pytest

# For the daily loop: PYTEST="test/policy -x" for a part of it.
PYTEST ?=
test-fast: install $(STAMPS)/tools $(STAMPS)/train
	@PYTHONSAFEPATH=1 $(BIN)/pytest -q -m "not slow and not ros" $(PYTEST)

# The C core and the C plant apart from ROS, with AddressSanitizer and UndefinedBehaviorSanitizer.
test-c: $(STAMPS)/runtime
	@for folder in physai_control/core physai_sim/plant; do \
	  [ -f $$folder/CMakeLists.txt ] || continue; \
	  $(BIN)/cmake -S $$folder -B $(SANITIZED)/$$folder -G Ninja -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN))/ninja \
	    -DCMAKE_BUILD_TYPE=Debug -DBUILD_TESTING=ON -DPython3_EXECUTABLE=$(abspath $(BIN))/python \
	    -DCMAKE_C_FLAGS="-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer" >build/configure-c.log \
	    || { cat build/configure-c.log; exit 1; }; \
	  $(BIN)/cmake --build $(SANITIZED)/$$folder && \
	  (cd $(SANITIZED)/$$folder && $(abspath $(BIN))/ctest --output-on-failure) || exit 1; \
	done

# What exchanges data between threads or processes, with ThreadSanitizer, which some kernels' random addresses upset.
test-threads: $(STAMPS)/runtime
	@$(BIN)/cmake -S physai_control/core -B $(THREADED) -G Ninja -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN))/ninja -DBUILD_TESTING=ON \
	    -DPython3_EXECUTABLE=$(abspath $(BIN))/python -DPHYSAI_SANITIZE=thread >build/configure-c.log || { cat build/configure-c.log; exit 1; }
	@$(BIN)/cmake --build $(THREADED) --target threaded_tests
	@cd $(THREADED) && $$(setarch -R true 2>/dev/null && echo setarch -R) $(abspath $(BIN))/ctest --output-on-failure -L threaded

# Longer than in `make test`: FUZZ_SECONDS for each target, by libFuzzer if there is a Clang.
fuzz: install $(STAMPS)/tools $(STAMPS)/train
	@$(BIN)/cmake -S physai_control/core -B $(FUZZED) -G Ninja -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN))/ninja -DBUILD_TESTING=ON \
	    -DCMAKE_C_COMPILER="$$(command -v clang || command -v cc)" -DPython3_EXECUTABLE=$(abspath $(BIN))/python \
	    -DPHYSAI_SANITIZE=address,undefined >build/configure-c.log || { cat build/configure-c.log; exit 1; }
	@$(BIN)/cmake --build $(FUZZED) --target fuzz_control_chunk model_control_mailbox
	@$(FUZZED)/test/model_control_mailbox 5 6
	cd $(FUZZED) && test/fuzz_control_chunk -max_total_time=$(FUZZ_SECONDS) -max_len=512 -len_control=0
	PYTHONSAFEPATH=1 PYTHONPATH=test/helpers $(BIN)/python test/helpers/fuzz_files.py --seconds $(FUZZ_SECONDS)

check: $(STAMPS)/tools
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	@if [ -n "$(C_SOURCES)" ]; then echo "$(BIN)/clang-format --dry-run -Werror"; $(BIN)/clang-format --dry-run -Werror $(C_SOURCES); fi
	@for folder in physai_control/core physai_sim/plant; do \
	  [ -f $$folder/CMakeLists.txt ] || continue; mkdir -p build; echo "C warnings as errors: $$folder"; \
	  $(BIN)/cmake -S $$folder -B build/c-check/$$folder -G Ninja -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN))/ninja -DBUILD_TESTING=ON \
	    -DPython3_EXECUTABLE=$(abspath $(BIN))/python -DCMAKE_BUILD_TYPE=RelWithDebInfo \
	    -DCMAKE_C_FLAGS="-Wall -Wextra -Werror -Wshadow -Wstrict-prototypes" >build/configure-c.log || { cat build/configure-c.log; exit 1; }; \
	  $(BIN)/cmake --build build/c-check/$$folder || exit 1; \
	done

format: $(STAMPS)/tools
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	@[ -z "$(C_SOURCES)" ] || $(BIN)/clang-format -i $(C_SOURCES)

# Some take a network's peer from torch, some an arm or a server from the tests.
bench: install $(STAMPS)/tools $(STAMPS)/train
	@for file in test/bench/bench_*.py; do [ -f "$$file" ] || continue; echo "== $$file"; $(BIN)/python $$file || exit 1; done

# F16 is a program of its own, every interleaving of a mailbox's two sides.
TRIALS ?= 200
faults: install
	@mkdir -p build
	@$(BIN)/cmake -S physai_control/core -B build/c-check/physai_control/core -G Ninja -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN))/ninja \
	    -DBUILD_TESTING=ON -DPython3_EXECUTABLE=$(abspath $(BIN))/python >build/configure-c.log || { cat build/configure-c.log; exit 1; }
	@$(BIN)/cmake --build build/c-check/physai_control/core --target model_control_mailbox
	@$(BIN)/physai faults --trials $(TRIALS)

# LeRobot itself writes checkpoints and answers, in an environment of its own, and imported bundles must answer the same.
PARITY := build/parity
PARITY_CASES ?=
$(PARITY)/installed: test/parity/requirements.txt
	@echo "installing LeRobot and what its ACT and diffusion policies import into $(PARITY)/.venv ..."
	@$(PYTHON) -m venv $(PARITY)/.venv
	@$(PARITY)/.venv/bin/python -m pip --disable-pip-version-check --quiet install torch==2.13.0
	@$(PARITY)/.venv/bin/python -m pip --disable-pip-version-check --quiet install --no-deps -r test/parity/requirements.txt
	@touch $@

parity: install $(STAMPS)/train $(PARITY)/installed
	@rm -rf $(PARITY)/cases
	@OMP_NUM_THREADS=1 $(PARITY)/.venv/bin/python test/parity/lerobot_reference.py $(PARITY)/cases --cases "$(PARITY_CASES)"
	@OMP_NUM_THREADS=1 PYTHONSAFEPATH=1 $(BIN)/python test/parity/compare.py $(PARITY)/cases

# The wheel as a user of pip would have it: declared dependencies and ROS's run-time wheels, nothing of .venv.
SMOKE := build/smoke
ROS_AT_RUN_TIME := ros-common-interfaces ros-lifecycle-msgs ros-rclpy ros-rmw-fastrtps-cpp
smoke: $(STAMPS)/runtime
	@rm -rf $(SMOKE)
	@mkdir -p $(SMOKE)
	@echo "building the wheel ..."
	@$(PIP) wheel --no-build-isolation --no-deps -w $(SMOKE) . >$(SMOKE)/wheel.log 2>&1 || { tail -60 $(SMOKE)/wheel.log; exit 1; }
	@$(PYTHON) -m venv $(SMOKE)/.venv
	@echo "installing it with what it declares into $(SMOKE)/.venv ..."
	@$(SMOKE)/.venv/bin/python -m pip --disable-pip-version-check --quiet install -c constraints.txt $(SMOKE)/*.whl $(ROS_AT_RUN_TIME)
	cd $(SMOKE) && .venv/bin/python -P ../../test/smoke/installed.py
	cd $(SMOKE) && .venv/bin/physai --help >help.txt && .venv/bin/physai eval --episodes 1 --sight truth --workers 1

first-task: install $(STAMPS)/tools $(STAMPS)/train
	@sh test/smoke/first_task.sh $(abspath $(BIN))

clean:
	rm -rf build install log .pytest_cache .ruff_cache .mypy_cache $(STAMPS)/physai
	@[ ! -x $(BIN)/python ] || $(PIP) uninstall -y physai 2>/dev/null || true
