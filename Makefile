# Two commands set up everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint wheel-check presets zoo zoo-small modes studies digits doctor flagship density bench growth precision edits augment gpu-check detect classify restore compress critic-loss clean

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade-strategy only-if-needed -c constraints.txt -e '.[test,lint]'
	touch $@

demo: $(VENV)/.ready
	$(BIN)/latentforge train vae-gan --preset mnist-5k/vae-gan
	@echo "open the report in a browser; then: . $(BIN)/activate"

test: $(VENV)/.ready
	$(BIN)/python -m pytest -q --durations=10 -n auto --dist loadfile

lint: $(VENV)/.ready
	$(BIN)/ruff check src tests benchmarks examples
	$(BIN)/ruff format --check src tests benchmarks examples
	$(BIN)/mypy

# the wheel, installed in an empty environment outside the repository, trains and samples
wheel-check:
	PYTHON=$(PYTHON) bash .ci/wheel-check

# train every preset whose result is not kept yet, and keep it in benchmarks/results/presets
presets: $(VENV)/.ready
	$(BIN)/python benchmarks/presets.py

# every family on MNIST for the same five minutes; finished cells are skipped
zoo: $(VENV)/.ready
	$(BIN)/python benchmarks/zoo.py

# the same on a few embedded digits: does every cell work?
zoo-small: $(VENV)/.ready
	$(BIN)/python benchmarks/zoo.py --small

# mode coverage of points in the plane, and its picture
modes: $(VENV)/.ready
	$(BIN)/python benchmarks/modes.py
	$(BIN)/python benchmarks/modes.py --picture

studies: $(VENV)/.ready
	$(BIN)/python benchmarks/studies.py

# the classifier that judges digits, trained anew on MNIST into the package
digits: $(VENV)/.ready
	$(BIN)/python benchmarks/digits.py

# healthy runs of every family and runs made sick on purpose: what does the doctor say?
doctor: $(VENV)/.ready
	$(BIN)/python benchmarks/doctor.py

# the hybrid beside its parents and rivals; hours in all, finished cells are skipped
flagship: $(VENV)/.ready
	$(BIN)/python benchmarks/flagship.py

# the VAE as a density; an hour and more
density: $(VENV)/.ready
	$(BIN)/python benchmarks/density.py

# images unlike those trained on; an hour and more, finished cells are skipped
detect: $(VENV)/.ready
	$(BIN)/python benchmarks/detect.py

# classes by Bayes' rule
classify: $(VENV)/.ready
	$(BIN)/python benchmarks/classify.py
# restorers beside the best linear estimator, five or ten minutes for each row; finished cells are skipped
restore: $(VENV)/.ready
	$(BIN)/python benchmarks/restore.py
	$(BIN)/python benchmarks/restore_ways.py

# our trainer beside other tools, in alternation; installs them into environments of their own; hours
bench: $(VENV)/.ready
	$(BIN)/python benchmarks/speed/bench.py

# images per second and memory against sizes
growth: $(VENV)/.ready
	$(BIN)/python benchmarks/growth.py

# the same images in bf16 and in fp32: are the models as good?
precision: $(VENV)/.ready
	$(BIN)/python benchmarks/precision.py

# attribute edits judged by a classifier that no model saw; most of an hour
edits: $(VENV)/.ready
	$(BIN)/python benchmarks/edit.py

# do drawn samples help a classifier? hours
augment: $(VENV)/.ready
	$(BIN)/python benchmarks/augment.py

# rate and distortion of codes; an hour
compress: $(VENV)/.ready
	$(BIN)/python benchmarks/compress.py

# a critic as a loss of reconstruction
critic-loss: $(VENV)/.ready
	$(BIN)/python benchmarks/critic_loss.py

# every family on whatever accelerator is there
gpu-check: $(VENV)/.ready
	$(BIN)/python benchmarks/gpu_check.py

clean:
	rm -rf $(VENV) build dist src/*.egg-info
